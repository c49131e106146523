"""Reading volumes (NIfTI, NRRD, MetaImage) and pictures (PNG, JPEG, TIFF)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from osml.errors import missing_extra
from osml.imaging.errors import DimensionError, UnreadableError
from osml.imaging.volume import Volume, from_sitk, simple_itk

VOLUME_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")


def read_image(path: Path | str, *, channel: str = "grey") -> Volume:
    """Read a picture or volume as float64, nothing rescaled.

    Parameters
    ----------
    path : file; its suffix says the format
    channel : of a colour picture: red, green, blue, or grey (ITU-R 601 luma)

    Raises
    ------
    UnreadableError, DimensionError, DirectionError
    """
    path = Path(path)
    volume = _picture(path, channel) if path.suffix.lower() in PICTURE_SUFFIXES else _volume(path)
    return volume.like(volume.array.astype(np.float64))


def read_mask(path: Path | str) -> Volume:
    """Read a label image as it is stored; `choose_label` makes it a mask."""
    path = Path(path)
    return _picture(path, "grey") if path.suffix.lower() in PICTURE_SUFFIXES else _volume(path)


def _volume(path: Path) -> Volume:
    if not path.name.lower().endswith(VOLUME_SUFFIXES):
        known = " ".join((*VOLUME_SUFFIXES, *PICTURE_SUFFIXES))
        raise UnreadableError(f"{path}: unknown format; known suffixes: {known}")
    if not path.is_file():
        raise UnreadableError(f"{path}: no such file")
    sitk = simple_itk()
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        detail = str(error).strip().splitlines()[-1]
        raise UnreadableError(f"{path}: cannot be read as an image ({detail})") from error
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = image[:, :, :, 0]
    if image.GetDimension() > 3:
        raise DimensionError(
            f"{path}: {image.GetDimension()}D, size {image.GetSize()}; a single 3D volume is expected",
            do="Split the series and name one file per volume.",
        )
    return from_sitk(image, str(path))


def _picture(path: Path, channel: str) -> Volume:
    if not path.is_file():
        raise UnreadableError(f"{path}: no such file")
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise missing_extra("pillow", "radiomics", "reading pictures") from error
    try:
        with Image.open(path) as picture:
            if getattr(picture, "n_frames", 1) > 1:
                raise DimensionError(
                    f"{path}: {getattr(picture, 'n_frames', 1)} pages; a picture of one page is expected"
                )
            colour = picture.mode in ("RGB", "RGBA", "P", "CMYK", "YCbCr")
            array = np.asarray(picture.convert("RGB") if colour else picture)
    except (UnidentifiedImageError, OSError) as error:
        raise UnreadableError(f"{path}: cannot be read as a picture ({error})") from error
    if colour:
        red, green, blue = np.moveaxis(array.astype(np.float64), 2, 0)
        channels = {"red": red, "green": green, "blue": blue, "grey": 0.299 * red + 0.587 * green + 0.114 * blue}
        array = channels[channel]
    return Volume(np.ascontiguousarray(array), name=str(path))
