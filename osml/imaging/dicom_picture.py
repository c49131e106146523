"""Radiographs and other single frames of DICOM."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from osml.errors import InvalidInputError
from osml.imaging import dicom
from osml.imaging.errors import DimensionError, UnreadableError
from osml.imaging.picture import LUMA, Picture, spread
from osml.imaging.raster import MAX_PIXELS
from osml.imaging.volume import Volume

if TYPE_CHECKING:
    from pydicom import Dataset

Window = tuple[float, float]
INVERTED = "turned over: the file stores white as 0 (MONOCHROME1)"
_SPACINGS = {
    "PixelSpacing": "",
    "ImagerPixelSpacing": "pixel size at the detector: the patient is smaller by the magnification",
    "NominalScannedPixelSpacing": "pixel size on the scanned film",
}
_GREY, _COLOUR = (
    ("MONOCHROME1", "MONOCHROME2"),
    ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "PALETTE COLOR"),
)
_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
_VIEW_TAGS = (
    "VOILUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
)


def read_dicom_plane(path: Path, channel: str = "grey") -> Volume:
    """One frame as float64 values: rescaled by slope and intercept or the modality table, not windowed.

    MONOCHROME1 is turned over within the range of its stored bits, so that brighter always means the same. The grid
    holds the pixel size; the place in the patient is not kept.

    Raises
    ------
    UnreadableError, DimensionError
    """
    header, notes = _header(path)
    values = dicom.read_values(path)[0]
    spacing, _, words = _spacing(header)
    if values.ndim == 3:
        weights = {"grey": LUMA, "red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1)}[channel]
        array = values.astype(np.float64) @ np.array(weights, dtype=np.float64)
    else:
        array, turned = _measured(path, header, values)
        notes += turned
    return Volume(array, spacing or (), name=str(path), notes=(*notes, *words))


def read_dicom_picture(path: Path, window: Window | None = None) -> Picture:
    """One frame as display values: grey as uint16 through its window, colour as stored.

    The window is `window` (centre, width in rescaled values; linear), else the file's VOI table, else the file's
    first window with its own function (linear, linear exact, sigmoid), else the range of the pixels without padding.
    MONOCHROME1 is turned over.

    Raises
    ------
    UnreadableError, DimensionError
    InvalidInputError
        A window for a picture in colour, or of width 0.
    """
    header, notes = _header(path)
    values = dicom.read_values(path)[0]
    spacing, source, words = _spacing(header)
    if values.ndim == 3:
        if window is not None:
            raise InvalidInputError(f"{path}: a picture in colour has no window")
        bits = (
            16
            if dicom.text(header, "PhotometricInterpretation") == "PALETTE COLOR"
            else dicom.whole(header, "BitsStored")
        )
        if values.dtype != np.uint8:
            values = spread(values, 0, 2**bits - 1)
        return Picture(values, spacing, source, (*notes, *words), str(path))
    shown, how = _windowed(path, header, values, window)
    if dicom.text(header, "PhotometricInterpretation") == "MONOCHROME1":
        shown, how = np.uint16(65535) - shown, (*how, INVERTED)
    return Picture(shown, spacing, source, (*notes, *words, *how), str(path))


def check_window(window: Window | None) -> None:
    """Refuse a window that is not two finite numbers with a positive width."""
    if window is not None and not (len(window) == 2 and np.all(np.isfinite(window)) and window[1] > 0):
        raise InvalidInputError(f"window {window}: a centre and a width above 0 are expected")


def _header(path: Path) -> tuple[Dataset, tuple[str, ...]]:
    header = dicom.read_header(path, *_VIEW_TAGS)
    rows, columns = dicom.whole(header, "Rows"), dicom.whole(header, "Columns")
    frames = dicom.whole(header, "NumberOfFrames", 1)
    dicom.check_image(path, header)
    if frames != 1:
        raise DimensionError(f"{path}: {frames} frames ({dicom.kind(header)}); a picture of one frame is expected")
    if rows * columns > MAX_PIXELS:
        raise DimensionError(
            f"{path}: {columns}×{rows}, {rows * columns / 1e6:.0f} megapixels; at most {MAX_PIXELS // 1_000_000}",
            do="Scale it down or cut it.",
        )
    if dicom.text(header, "PhotometricInterpretation") not in (*_GREY, *_COLOUR):
        raise UnreadableError(
            f"{path}: its photometric interpretation is none of {', '.join((*_GREY, *_COLOUR))}",
            do="Export it as MONOCHROME2 or RGB.",
        )
    return header, dicom.notes(header)


def _spacing(header: Dataset) -> tuple[tuple[float, float] | None, str, tuple[str, ...]]:
    for keyword, words in _SPACINGS.items():
        found = dicom.numbers(header, keyword, 2)
        if found is not None and min(found) > 0:
            return (found[1], found[0]), keyword, ((f"{keyword}: {words}",) if words else ())
    return None, "", ("the file does not know the size of its pixels",)


def _measured(path: Path, header: Dataset, values: NDArray[Any]) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    notes: tuple[str, ...] = ()
    if dicom.text(header, "PhotometricInterpretation") == "MONOCHROME1":
        bits = dicom.whole(header, "BitsStored")
        # Unsigned values lie in 0 … 2^bits - 1, signed ones in -2^(bits-1) … 2^(bits-1) - 1.
        ends = -1 if dicom.whole(header, "PixelRepresentation") else 2**bits - 1
        values, notes = (ends - values.astype(np.int64)), (INVERTED,)
    return _rescaled(path, header, values), notes


def _rescaled(path: Path, header: Dataset, values: NDArray[Any]) -> NDArray[np.float64]:
    tables = dicom.parts(header, "ModalityLUTSequence")
    if tables:
        return _looked_up(path, tables[0], values, "modality")[0].astype(np.float64)
    slope, intercept = dicom.numbers(header, "RescaleSlope", 1), dicom.numbers(header, "RescaleIntercept", 1)
    return values * (slope or (1.0,))[0] + (intercept or (0.0,))[0]


def _windowed(
    path: Path, header: Dataset, values: NDArray[Any], window: Window | None
) -> tuple[NDArray[np.uint16], tuple[str, ...]]:
    measured = _rescaled(path, header, values)
    if window is not None:
        return spread(measured, window[0] - window[1] / 2, window[0] + window[1] / 2), ()
    tables = dicom.parts(header, "VOILUTSequence")
    if tables:
        shown, bits = _looked_up(path, tables[0], measured, "VOI")
        return spread(shown, 0, 2**bits - 1), ()
    centre, width = dicom.first(header, "WindowCenter"), dicom.first(header, "WindowWidth")
    function = dicom.text(header, "VOILUTFunction") or "LINEAR"
    if function not in _FUNCTIONS:
        raise UnreadableError(
            f"{path}: its window function is none of {', '.join(_FUNCTIONS)}", do="Name a window (centre, width)."
        )
    if centre is not None and width is not None and (width > 1 or (width > 0 and function != "LINEAR")):
        if function == "SIGMOID":  # PS3.3 C.11.2.1.3.1
            return spread(1 / (1 + np.exp(np.clip(-4 * (measured - centre) / width, -50, 50))), 0, 1), ()
        if function == "LINEAR":  # PS3.3 C.11.2.1.2.1: half a value lower and one narrower
            centre, width = centre - 0.5, width - 1
        return spread(measured, centre - width / 2, centre + width / 2), ()
    keep = measured[~_padding(header, values)]
    low, high = (float(keep.min()), float(keep.max())) if keep.size else (0.0, 0.0)
    return spread(measured, low, high), (f"no window in the file: its range {low:g} to {high:g} is shown",)


def _padding(header: Dataset, values: NDArray[Any]) -> NDArray[np.bool_]:
    ends = [dicom.first(header, "PixelPaddingValue"), dicom.first(header, "PixelPaddingRangeLimit")]
    known = [end for end in ends if end is not None]
    if not known:
        return np.zeros(values.shape, dtype=bool)
    return (values >= min(known)) & (values <= max(known))


def _looked_up(path: Path, table: Dataset, values: NDArray[Any], what: str) -> tuple[NDArray[np.int64], int]:
    """Values through a table (PS3.3 C.11.1, C.11.2), and the bits of its entries; its ends hold beyond it."""
    described = dicom.numbers(table, "LUTDescriptor", 3)
    entries = dicom.table_entries(table)
    if described is None or not 8 <= described[2] <= 16 or entries.size != (int(described[0]) or 2**16):
        raise UnreadableError(f"{path}: its {what} table is damaged", do="Export the picture again.")
    index = np.rint(values).astype(np.int64) - int(described[1])
    return entries[np.clip(index, 0, entries.size - 1)], int(described[2])
