"""Inputs that are files or are computed from files: volumes, pictures, and the radiomics of either."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from osml.schema.fields import Block, Number, Text, Whole

ImageClass = Literal["firstorder", "shape", "glcm", "glrlm", "glszm", "gldm", "ngtdm"]
FilterName = Literal["original", "wavelet", "square", "squareroot", "logarithm", "exponential", "gradient"]


class Mask(Block):
    """The segmented lesion: a second file on the image's grid."""

    column: Text = Field(description="column of the mask's path")
    label: Number | None = Field(None, description="value of the lesion in the mask; default: the only one")
    others: Literal["subtract", "keep"] = Field(
        "subtract", description="other labels are other lesions: out of the rings, or kept in them"
    )


class _ImageInput(Block):
    column: Text | None = Field(None, description="column of the path; default: the input's name. Paths are relative "
                                "to the table's folder")  # fmt: skip
    label: Text | None = Field(None, description="name in tables and figures; default: the input's name")
    available: Text = Field(description="one of `times`: when the image is known")
    mask: Mask | None = Field(None, description="segmentation of the lesion, needed for radiomics")


class VolumeInput(_ImageInput):
    """A 3D image: NIfTI, NRRD, MetaImage, or a folder of DICOM slices."""

    kind: Literal["volume"]
    body: Text | None = Field(None, description="column of a body mask: clips rings, and what `over: body` refers to")


class ImageInput(_ImageInput):
    """A picture or radiograph: PNG, JPEG, TIFF or DICOM."""

    kind: Literal["image"]
    several: bool = Field(
        False, description="true: the rows of a patient may name different pictures; all of them are the patient's"
    )
    orientation: Literal["fixed", "free"] = Field(
        "fixed", description="free: no up and no left (histology); networks then see all eight flips and quarter turns"
    )
    mpp: Annotated[Number, Field(gt=0)] | None = Field(
        None, description="µm per pixel of the stored picture; nuclei are then measured in µm"
    )


class Normalise(Block):
    """Grey values before anything is computed from them."""

    method: Literal["zscore"] = Field(description="(x - mean) / SD")
    over: Literal["image", "body"] = Field("image", description="voxels that mean and SD are taken over")
    scale: Annotated[Number, Field(gt=0)] = Field(
        1.0, description="factor on the z-score; 100 makes a bin width of 25 a quarter of an SD"
    )


class LogFilter(Block):
    """Laplacian of Gaussian."""

    log: Annotated[tuple[Annotated[Number, Field(gt=0)], ...], Field(min_length=1, description="widths in mm")]


class Bins(Block):
    """Grey levels: of a fixed width, or a fixed number."""

    width: Annotated[Number, Field(gt=0)] | None = Field(None, description="intensity units per grey level")
    count: Annotated[Whole, Field(ge=2)] | None = Field(None, description="grey levels per region and filtered image")


class Stability(Block):
    """Which features a second reader, or small changes of the mask, leave as they are."""

    masks: Text | None = Field(None, description="column of a second reader's masks; blank where not read twice")
    perturb: Annotated[Whole, Field(ge=2)] | None = Field(
        None, description="instead of a second reader: number of perturbed copies of image and mask"
    )
    icc: Literal["2,1", "3,1"] = Field("2,1", description="2,1: absolute agreement; 3,1: consistency")
    min: Annotated[Number, Field(gt=0, lt=1)] = Field(0.75, description="features below are not used")


class RadiomicsInput(Block):
    """Numbers computed from a volume or picture and its mask. Known when the image is known."""

    kind: Literal["radiomics"]
    of: Text = Field(description="the volume or image that it is computed from")
    label: Text | None = Field(None, description="name in tables and figures; default: the input's name")
    normalise: Normalise | None = Field(None, description="default: grey values as they are stored")
    spacing: tuple[Annotated[Number, Field(gt=0)], ...] | None = Field(
        None, description="mm along x, y(, z) to resample to; default: as stored"
    )
    bins: Bins = Field(Bins(width=25.0), description="grey levels")
    regions: Literal["mri-rings"] | tuple[Text, ...] = Field(
        ("tumour",), description="tumour; A-Bmm, a ring; tumour+Bmm; mri-rings: tumour, 0-2mm, 0-4mm, 0-6mm and the "
        "tumour with each"
    )  # fmt: skip
    filters: tuple[FilterName | LogFilter, ...] = Field(("original",), description="images that features come from")
    classes: tuple[ImageClass, ...] = Field(
        ("firstorder", "shape", "glcm", "glrlm", "glszm", "gldm", "ngtdm"), description="groups of features"
    )
    crop: Literal["shared", "compat"] = Field(
        "shared", description="shared: filters once for all regions; compat: as PyRadiomics crops, region by region"
    )
    leaving: Literal["refuse", "clip"] = Field(
        "refuse", description="a ring that leaves the image or the body: refuse the patient, or clip and report"
    )
    in_plane: bool = Field(False, description="texture within slices only")
    ibsi: bool = Field(False, description="IBSI definitions where PyRadiomics departs from them")
    engine: Literal["osml", "pyradiomics"] = Field("osml", description="pyradiomics: the original library, slower")
    mask: Literal["full", "tissue", "nuclei"] | None = Field(
        None, description="of an H&E picture without a drawn mask: the whole picture, or what its colours show as "
        "tissue or nuclei"
    )  # fmt: skip
    channels: tuple[Literal["grey", "haematoxylin", "eosin"], ...] | None = Field(
        None, description="with `mask`: planes that features come from; default: all"
    )
    stability: Stability | None = Field(None, description="default: no feature is dropped for being unstable")
    harmonise: Literal["combat"] | None = Field(
        None, description="remove differences between sites (`cohort.site`) inside each training fold"
    )
