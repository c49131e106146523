"""PNG, JPEG and TIFF files as arrays."""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from osml.errors import missing_extra
from osml.imaging.errors import DimensionError, ImagingError, LabelError, UnreadableError

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
# Pillow knows some fifty formats; one of them runs Ghostscript.
_FORMATS = ("PNG", "JPEG", "TIFF")
# Twice the largest stitched radiograph of a leg; a whole slide has more and is read in pieces.
MAX_PIXELS = 80_000_000
# What Pillow's decoders raise on damaged bytes; UnidentifiedImageError is an OSError.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error, zlib.error)


def read_raster(path: Path, *, labels: bool = False) -> tuple[NDArray[Any], tuple[str, ...]]:
    """The pixels of a picture, grey (y, x) or colour (y, x, 3), and notes; a camera's rotation (EXIF) is applied.

    Grey keeps its type (bool, uint8, uint16, int32, float32); palettes and CMYK become RGB with 8 bits; an alpha
    channel without effect is dropped. Colour profiles are not applied.

    Parameters
    ----------
    labels : of a coloured palette, the indices (0 is the background) instead of the colours

    Raises
    ------
    UnreadableError
        Missing, damaged, truncated, or none of PNG, JPEG and TIFF.
    DimensionError
        Several pages, more than `MAX_PIXELS`, or transparent pixels, which have no colour.
    """
    if not path.is_file():
        raise UnreadableError(f"{path}: no such file")
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise missing_extra("pillow", "radiomics", "reading pictures") from error
    try:
        with warnings.catch_warnings():
            # A large picture is refused below, whatever Pillow's own limit is set to.
            warnings.simplefilter("ignore")
            with Image.open(path, formats=_FORMATS) as picture:
                _check(picture, path)
                notes = _notes(picture)
                white_is_zero = picture.format == "TIFF" and getattr(picture, "tag_v2", {}).get(262) == 0
                array = _array(ImageOps.exif_transpose(picture), path, labels)
    except Image.DecompressionBombError as error:
        raise _too_large(path, "more than 100") from error
    except ImagingError:  # a ValueError too
        raise
    except _DAMAGE as error:
        raise UnreadableError(f"{path}: cannot be read as a picture ({_reason(error, path)})") from error
    # Pillow turns 8-bit pictures of this kind over, but not those of 16 bits.
    if white_is_zero and array.dtype == np.uint16:
        array = np.uint16(65535) - array
    return np.ascontiguousarray(array), notes


def _check(picture: Image, path: Path) -> None:
    pages = getattr(picture, "n_frames", 1)
    # Telephones append previews to a JPEG (MPO); its first page is the picture.
    if pages > 1 and picture.format != "MPO":
        raise DimensionError(f"{path}: {pages} pages; a picture of one page is expected")
    if picture.width * picture.height > MAX_PIXELS:
        raise _too_large(path, f"{picture.width * picture.height / 1e6:.0f}", f"{picture.width}×{picture.height}, ")


def _too_large(path: Path, megapixels: str, size: str = "") -> DimensionError:
    return DimensionError(
        f"{path}: {size}{megapixels} megapixels; at most {MAX_PIXELS // 1_000_000}",
        why="It was not decoded: small files can hold pictures that fill the memory.",
        do="Scale it down or cut it; a whole slide is read in tiles.",
    )


def _notes(picture: Image) -> tuple[str, ...]:
    modes = [str(args[0] if isinstance(args, tuple) else args) for *_, args in getattr(picture, "tile", []) if args]
    if picture.mode in ("RGB", "RGBA", "CMYK") and any(";16" in mode for mode in modes):
        return ("16 bits a channel were read with 8",)
    return ()


def _array(picture: Image, path: Path, labels: bool) -> NDArray[Any]:
    if picture.mode == "P" and labels and "transparency" not in picture.info:
        colours = np.reshape(picture.getpalette("RGB") or [], (-1, 3))
        indices = np.asarray(picture)
        used = colours[np.unique(indices[indices < len(colours)])]
        if (used != used[:, :1]).any():
            if colours[0].any():
                raise LabelError(
                    f"{path}: a coloured palette whose first colour is not black",
                    why="Which colour means `nothing segmented` would be guessed.",
                    do="Save the mask in grey, 0 for the background.",
                )
            return indices
        return np.asarray(picture.convert("RGB"))[..., 0]
    if picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        whole = picture.convert("RGBA")
        clear = int((np.asarray(whole.getchannel("A")) < 255).sum())
        if clear:
            raise DimensionError(
                f"{path}: {clear} of {whole.width * whole.height} pixels are transparent",
                why="Their colour would be guessed.",
                do="Flatten the picture onto a background.",
            )
        return np.asarray(picture.convert("L" if picture.mode in ("L", "LA", "La") else "RGB"))
    if picture.mode in ("1", "L", "I", "F") or picture.mode.startswith("I;16"):
        array = np.asarray(picture)
        return array.astype(array.dtype.newbyteorder("="))
    return np.asarray(picture.convert("RGB"))


def _reason(error: Exception, path: Path) -> str:
    text = str(error).replace(str(path), "the file").replace("\n", " ").strip()
    return text[:120] or type(error).__name__
