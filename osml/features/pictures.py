"""Files of an image input as pictures that an encoder takes: a radiograph of DICOM, three planes of a volume.

A picture file stays as it is; the others are drawn once into the cache, named by their content.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.cache import Cache, content_key
from osml.files import sha256_file
from osml.imaging.errors import DimensionError, UnreadableError
from osml.imaging.read import DICOM_SUFFIXES, PICTURE_SUFFIXES, image_files, read_image, read_mask
from osml.schema.images import Mask

DRAWING_VERSION = "drawn-1"
# Around the lesion, as a share of its size in the plane: what borders it is seen, too.
MARGIN = 0.25
PLANES = ("axial", "coronal", "sagittal")


def radiograph_picture(path: Path, cache: Path) -> Path:
    """The path itself for PNG, JPEG and TIFF; of a DICOM radiograph a PNG as it is meant to be looked at."""
    from osml.imaging.dicom import is_dicom

    if path.suffix.lower() in PICTURE_SUFFIXES:
        return path
    if not path.is_file():
        raise UnreadableError(f"{path}: no such file")
    if path.suffix.lower() not in DICOM_SUFFIXES and not is_dicom(path):
        return path  # the decoder says what it is not
    from osml.imaging.dicom_picture import read_dicom_picture

    key = content_key([DRAWING_VERSION, "radiograph", sha256_file(path)])
    return _drawn(cache, key, lambda: read_dicom_picture(path).rgb8())


def volume_pictures(image: Path, mask: Path, block: Mask, cache: Path) -> tuple[Path, ...]:
    """Three pictures of a volume: in each plane the slice with most of the lesion, cut around it.

    Grey values from the 1st to the 99th percentile of the cut; pixels are made square, so that a thick slice does not
    look flat. Raises as `read_image` and `read_mask` do, and where the mask is empty.
    """
    files = [*image_files(image), *image_files(mask)]
    key = content_key([DRAWING_VERSION, "planes", repr(block), *(sha256_file(file) for file in files)])
    names = [f"{key}-{plane}" for plane in PLANES]
    kept = Cache(cache, ".png")
    if all(kept.load(name) is not None for name in names):
        return tuple(_drawn(cache, name, lambda: np.empty(0)) for name in names)
    pictures = draw_planes(image, mask, block)
    return tuple(
        _drawn(cache, name, lambda picture=picture: picture) for name, picture in zip(names, pictures, strict=True)
    )


def draw_planes(image: Path, mask: Path, block: Mask) -> list[NDArray[np.uint8]]:
    """The three pictures of `volume_pictures`, each (h, w) of uint8."""
    from osml.imaging.masks import align, check_finite, choose_label

    volume = read_image(image)
    check_finite(volume)
    if volume.array.ndim != 3:
        raise DimensionError(f"{image}: {volume.array.ndim} dimensions; a volume is expected")
    labels, _ = align(volume, read_mask(mask, volume))
    inside = choose_label(labels, block.label).array.astype(bool)
    sx, sy, sz = volume.spacing_mm
    # (axis of the slice, spacing of rows, spacing of columns) in array order z, y, x
    out = []
    for axis, row_mm, column_mm in ((0, sy, sx), (1, sz, sx), (2, sz, sy)):
        others = tuple(k for k in range(3) if k != axis)
        k = int(np.argmax(inside.sum(axis=others)))
        grey, lesion = np.take(volume.array, k, axis=axis), np.take(inside, k, axis=axis)
        out.append(_cut(grey, lesion, row_mm, column_mm))
    return out


def _cut(grey: NDArray[Any], lesion: NDArray[np.bool_], row_mm: float, column_mm: float) -> NDArray[np.uint8]:
    from PIL import Image

    rows, columns = np.flatnonzero(lesion.any(axis=1)), np.flatnonzero(lesion.any(axis=0))
    half_mm = (1 + MARGIN) / 2 * max((rows[-1] - rows[0] + 1) * row_mm, (columns[-1] - columns[0] + 1) * column_mm)
    sides = []
    for found, mm, size in ((rows, row_mm, grey.shape[0]), (columns, column_mm, grey.shape[1])):
        middle, half = (found[0] + found[-1] + 1) / 2, half_mm / mm
        sides.append((max(0, int(np.floor(middle - half))), min(size, int(np.ceil(middle + half)))))
    (top, bottom), (left, right) = sides
    part = np.asarray(grey[top:bottom, left:right], dtype=np.float64)
    low, high = np.percentile(part, [1, 99])
    shown = np.clip((part - low) / max(high - low, 1e-12), 0, 1) * 255
    finest = min(row_mm, column_mm)
    size = max(1, round(part.shape[1] * column_mm / finest)), max(1, round(part.shape[0] * row_mm / finest))
    return np.asarray(Image.fromarray(np.rint(shown).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC))


def _drawn(cache: Path, key: str, draw: Any) -> Path:
    """Where the PNG of a key lies; it is drawn where it is not kept yet."""
    from PIL import Image

    kept = Cache(cache, ".png")
    data = kept.load(key)
    if data is None:
        sink = io.BytesIO()
        Image.fromarray(draw()).save(sink, "PNG")
        data = sink.getvalue()
    return kept.store(key, data)
