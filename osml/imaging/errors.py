"""Why an image or mask was refused; `reason` is the short code in tables of failures."""

from __future__ import annotations

from osml.errors import InvalidInputError


class ImagingError(InvalidInputError):
    """An image, a mask or a region that cannot be used. Nothing was changed."""

    reason = "unusable"


class UnreadableError(ImagingError):
    """The file is missing, damaged or of an unknown format."""

    reason = "unreadable"


class DimensionError(ImagingError):
    """Not a 2D picture or a 3D volume of one channel."""

    reason = "dimension"


class SeriesError(ImagingError):
    """Files that do not form one volume: several series, missing or doubled slices."""

    reason = "series"


class GeometryError(ImagingError):
    """Mask and image lie on different grids."""

    reason = "geometry"


class DirectionError(ImagingError):
    """The direction matrix is not orthonormal."""

    reason = "direction"


class NonFiniteError(ImagingError):
    """The image holds NaN or infinity."""

    reason = "non_finite"


class EmptyMaskError(ImagingError):
    """Nothing is segmented."""

    reason = "empty_mask"


class LabelError(ImagingError):
    """The asked label is absent, or several labels exist and none was chosen."""

    reason = "label"


class RegionError(ImagingError):
    """A region is empty, too small, or leaves the field of view."""

    reason = "region"


class GreyLevelError(ImagingError):
    """A region has one grey level, or more than allowed."""

    reason = "grey_levels"


class ScaleError(ImagingError):
    """A slide whose µm per pixel are unknown or implausible, or a scale that it does not have."""

    reason = "mpp"


class NoTissueError(ImagingError):
    """No tissue was found on a slide."""

    reason = "no_tissue"


class AnnotationError(ImagingError):
    """An annotation that does not fit its slide or its classes."""

    reason = "annotation"
