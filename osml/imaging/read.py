"""Reading volumes (NIfTI, NRRD, MetaImage, DICOM), masks, and pictures (PNG, JPEG, TIFF, DICOM)."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from osml.errors import InvalidInputError
from osml.imaging import raster
from osml.imaging.dicom import check_size, is_dicom, read_header, whole
from osml.imaging.dicom_picture import Window, check_window, read_dicom_picture, read_dicom_plane
from osml.imaging.dicom_seg import is_segmentation, read_segmentation
from osml.imaging.dicom_volume import read_frames, read_series, series_files
from osml.imaging.errors import DimensionError, UnreadableError
from osml.imaging.masks import choose_label
from osml.imaging.nifti import require_finite
from osml.imaging.picture import LUMA, Picture, spread
from osml.imaging.volume import Volume, from_sitk, simple_itk

VOLUME_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
PICTURE_SUFFIXES = raster.SUFFIXES
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
# Headers that name another file with the values.
_DETACHED = {".mhd": rb"^ElementDataFile\s*=\s*(.+?)\s*$", ".nhdr": rb"^data ?file:\s*(.+?)\s*$"}


def read_image(path: Path | str, *, channel: str = "grey") -> Volume:
    """Read a picture or volume as float64: the values that were measured.

    NIfTI, NRRD, MetaImage, PNG, JPEG and TIFF are not rescaled; DICOM is, by its slope and intercept.

    Parameters
    ----------
    path : a file, or the folder of a DICOM series; DICOM is known by its content, the rest by the suffix
    channel : of a colour picture: red, green, blue, or grey (ITU-R 601 luma)

    Raises
    ------
    UnreadableError, DimensionError, DirectionError, SeriesError
    """
    path = Path(path)
    if path.is_dir():
        return read_series(path)
    if is_dicom(path):
        return (
            read_frames(path) if whole(read_header(path), "NumberOfFrames", 1) > 1 else read_dicom_plane(path, channel)
        )
    volume = _flat(path, channel) if path.suffix.lower() in PICTURE_SUFFIXES else _volume(path)
    return volume.like(volume.array.astype(np.float64))


def read_mask(path: Path | str, like: Volume | None = None, *, label: float | None = None) -> Volume:
    """Read a label image as it is stored; `choose_label` makes it a mask.

    A picture's grey values are its labels, of a coloured palette the indices; PNG, JPEG and TIFF know no place in
    space and take that of a 2D `like` of their size. A DICOM segmentation is placed on the grid of `like`, its segment
    numbers are the labels.

    Parameters
    ----------
    like : the image that the mask was drawn on; needed for a DICOM segmentation, which holds no grid of its own
    label : keep this label only, 0 elsewhere; needed where the segments of a DICOM segmentation overlap

    Raises
    ------
    UnreadableError, DimensionError, DirectionError, SeriesError, GeometryError, EmptyMaskError, LabelError
    """
    path = Path(path)
    if path.is_file() and is_dicom(path) and is_segmentation(path):
        return read_segmentation(path, like, label)
    if path.is_dir():
        files, _ = series_files(path)
        if len(files) == 1 and is_segmentation(files[0]):
            return read_segmentation(files[0], like, label)
    if path.is_dir() or is_dicom(path):
        mask = read_image(path)
    else:
        flat = path.suffix.lower() in PICTURE_SUFFIXES
        mask = _flat(path, "grey", labels=True) if flat else _volume(path)
        if flat and like is not None and like.size == mask.size:
            mask = replace(like, array=mask.array, name=mask.name, notes=mask.notes)
    return mask if label is None else mask.like(np.where(choose_label(mask, label).array, mask.array, 0))


def read_picture(path: Path | str, *, window: Window | None = None) -> Picture:
    """Read a picture or radiograph as it is meant to be looked at, for networks and for the eye.

    8 bits and colour stay as stored. Grey of more bits becomes uint16 through a window: `window`, else the file's own
    (DICOM), else the range of the pixels, which `notes` tells. `read_image` gives measured values instead.

    Parameters
    ----------
    path : PNG, JPEG, TIFF or a single frame of DICOM, known by its content
    window : centre and width in measured values, linear from centre - width / 2 to centre + width / 2

    Raises
    ------
    UnreadableError
        Missing, damaged, truncated or another format.
    DimensionError
        Several frames or pages, too many pixels, transparent pixels.
    InvalidInputError
        A window for a picture in colour, or of width 0.
    """
    path = Path(path)
    check_window(window)
    if is_dicom(path):
        return read_dicom_picture(path, window)
    array, notes = raster.read_raster(path)
    if array.ndim == 3 and window is not None:
        raise InvalidInputError(f"{path}: a picture in colour has no window")
    if array.dtype == bool:
        array = array.astype(np.uint8) * np.uint8(255)
    if window is not None:
        array = spread(array, window[0] - window[1] / 2, window[0] + window[1] / 2)
    elif array.dtype != np.uint8:
        if not np.isfinite(array).all():
            raise UnreadableError(f"{path}: NaN or infinite pixels")
        low, high = float(array.min()), float(array.max())
        array = spread(array, low, high)
        notes = (*notes, f"no window in the file: its range {low:g} to {high:g} is shown")
    return Picture(array, None, "", notes, str(path))


def image_files(path: Path | str) -> list[Path]:
    """Every file that an image or mask is read from, for hashing: slices of a folder, a header's data file.

    Raises
    ------
    UnreadableError
        There is none, or a header names several data files.
    """
    path = Path(path)
    if path.is_dir():
        return series_files(path)[0]
    if not path.is_file():
        raise UnreadableError(f"{path}: no such file")
    pattern = _DETACHED.get(path.suffix.lower())
    if pattern is None:
        return [path]
    found = re.search(pattern, path.read_bytes()[:65536], flags=re.MULTILINE | re.IGNORECASE)
    name = found.group(1).decode("utf-8", errors="replace") if found else ""
    if name.upper() == "LOCAL":
        return [path]
    data = path.parent / name
    if not name or not data.is_file():
        raise UnreadableError(
            f"{path}: the data file that it names is missing, or there are several",
            do="Keep header and values in one file (.mha, .nrrd).",
        )
    return [path, data]


def _volume(path: Path) -> Volume:
    if path.suffix.lower() in DICOM_SUFFIXES:
        raise UnreadableError(
            f"{path}: {'does not begin as DICOM files do' if path.is_file() else 'no such file'}",
            do="Export it again; files without the preamble of the standard (part 10) are not read.",
        )
    if not path.name.lower().endswith(VOLUME_SUFFIXES):
        known = " ".join((*VOLUME_SUFFIXES, *PICTURE_SUFFIXES))
        raise UnreadableError(f"{path}: unknown format; known are DICOM, and the suffixes {known}")
    if not path.is_file():
        raise UnreadableError(f"{path}: no such file")
    sitk = simple_itk()
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        # The header first: a small compressed file can declare more than the memory holds.
        reader.ReadImageInformation()
        size = reader.GetSize()
        if len(size) > 3 and (len(size) > 4 or size[3] != 1):
            raise DimensionError(
                f"{path}: {len(size)}D, size {size}; a single 3D volume is expected",
                do="Split the series and name one file per volume.",
            )
        check_size(path, int(np.prod([int(n) for n in size], dtype=object)))
        image = reader.Execute()
    except RuntimeError as error:
        detail = str(error).strip().splitlines()[-1]
        raise UnreadableError(f"{path}: cannot be read as an image ({detail})") from error
    if path.name.lower().endswith((".nii", ".nii.gz")):
        require_finite(path, image.GetNumberOfPixels())
    if image.GetDimension() == 4:
        image = image[:, :, :, 0]
    return from_sitk(image, str(path))


def _flat(path: Path, channel: str, *, labels: bool = False) -> Volume:
    array, notes = raster.read_raster(path, labels=labels)
    if array.ndim == 3:
        red, green, blue = np.moveaxis(array.astype(np.float64), 2, 0)
        grey = LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
        array = {"red": red, "green": green, "blue": blue, "grey": grey}[channel]
    return Volume(np.ascontiguousarray(array), name=str(path), notes=notes)
