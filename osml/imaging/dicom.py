"""DICOM files: the tags that place pixels in space, and the pixels. No other tag is read, so none can leak."""

from __future__ import annotations

import logging
import struct
import tempfile
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from osml.errors import missing_extra
from osml.imaging.errors import DimensionError, UnreadableError
from osml.imaging.volume import simple_itk

if TYPE_CHECKING:
    from pydicom import Dataset

MAX_VALUES = 1_000_000_000
BURNED_IN = "text is burned into the pixels (BurnedInAnnotation YES); it may name the patient"
LOSSY = "stored with lossy compression"
SEGMENTATION, LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"
CONTOURS, _DOSE = "1.2.840.10008.5.1.4.1.1.481.3", "1.2.840.10008.5.1.4.1.1.481.2"

PIXEL_TAGS = (
    "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "Rows", "Columns", "NumberOfFrames",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
)  # fmt: skip
PLACE_TAGS = (
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "ImagerPixelSpacing",
    "NominalScannedPixelSpacing", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
)  # fmt: skip
# UIDs are compared, never kept or printed.
KIND_TAGS = ("SOPClassUID", "SeriesInstanceUID", "BurnedInAnnotation", "LossyImageCompression")
_DATA_TAGS = (
    "PixelData", "FloatPixelData", "DoubleFloatPixelData", "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor", "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData", "GreenPaletteColorLookupTableData", "BluePaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData", "SegmentedGreenPaletteColorLookupTableData",
    "SegmentedBluePaletteColorLookupTableData",
)  # fmt: skip
_LOGGERS = ("pydicom", "pydicom.pixels.utils", "pydicom.pixels.decoders.base")


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM files do (part 10 of the standard); its name does not matter."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def read_header(path: Path, *more: str) -> Dataset:
    """The allowed tags of a file, `more` of them if named, without the pixels.

    Raises
    ------
    UnreadableError
        Not DICOM, or damaged.
    """
    return _read(path, (*PIXEL_TAGS, *PLACE_TAGS, *KIND_TAGS, *more), pixels=False)


def check_image(path: Path, header: Dataset) -> None:
    """Refuse reports, plans, contours, segmentations and doses."""
    other = text(header, "SOPClassUID") in (SEGMENTATION, LABEL_MAP, _DOSE)
    if other or not (whole(header, "Rows") and whole(header, "Columns")):
        raise UnreadableError(f"{path}: {kind(header)}, not an image", do="Name an image, or the folder of its slices.")


def read_values(path: Path, *, palette: bool = True) -> NDArray[Any]:
    """Stored values, nothing rescaled: (frames, y, x), with a last axis of 3 where there is colour (as RGB).

    A palette is applied unless `palette` is False, which gives its indices.

    Uncompressed, deflated, RLE, JPEG and JPEG 2000 files are decoded by pydicom and Pillow; lossless JPEG, JPEG-LS
    and JPEG of 12 bits by the GDCM library within SimpleITK.

    Raises
    ------
    UnreadableError, DimensionError
    """
    data = _read(path, (*PIXEL_TAGS, *_DATA_TAGS), pixels=True)
    frames, rows, columns = whole(data, "NumberOfFrames", 1), whole(data, "Rows"), whole(data, "Columns")
    check_size(path, frames * rows * columns)
    from pydicom.pixels import apply_color_lut

    with _quiet():
        try:
            array = _decoded(data)
            coloured = palette and text(data, "PhotometricInterpretation") == "PALETTE COLOR"
            array = apply_color_lut(array, data) if coloured else array
        except _damage():
            # The decoder's own words may quote the file.
            raise UnreadableError(
                f"{path}: the pixels cannot be decoded ({transfer_syntax(data)})",
                do="Copy the file again; if that does not help, export it uncompressed.",
            ) from None
    samples = 3 if coloured else whole(data, "SamplesPerPixel", 1)
    expected = (frames, rows, columns, samples)
    if array.size != np.prod(expected):
        raise UnreadableError(f"{path}: {array.size} values are stored, {np.prod(expected)} are declared")
    return array.reshape(expected if samples > 1 else expected[:3])


def check_size(path: Path, values: int) -> None:
    """Refuse what would fill the memory, before it is decoded."""
    if not 0 < values <= MAX_VALUES:
        raise DimensionError(f"{path}: {values} voxels are declared; 1 to {MAX_VALUES} are read")


def kind(data: Dataset) -> str:
    """What a file is, in the standard's words; a private class stays unnamed.

    >>> from pydicom import Dataset
    >>> header = Dataset()
    >>> header.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    >>> kind(header), kind(Dataset())
    ('CT Image Storage', 'DICOM file of an unknown kind')
    """
    return _uid_name(_value(data, "SOPClassUID")) or "DICOM file of an unknown kind"


def transfer_syntax(data: Dataset) -> str:
    """How the pixels are compressed, in the standard's words."""
    return _uid_name(getattr(data, "file_meta", {}).get("TransferSyntaxUID")) or "an unknown transfer syntax"


def notes(data: Dataset) -> tuple[str, ...]:
    """`BURNED_IN` and `LOSSY`, where the file says so."""
    found = []
    if text(data, "BurnedInAnnotation") == "YES":
        found.append(BURNED_IN)
    if text(data, "LossyImageCompression") == "01":
        found.append(LOSSY)
    return tuple(found)


def text(data: Dataset, keyword: str) -> str:
    """A coded value, or nothing."""
    value = _value(data, keyword)
    return value.strip() if isinstance(value, str) else ""


def whole(data: Dataset, keyword: str, default: int = 0) -> int:
    """A whole number, or the default where it is absent or no number."""
    try:
        return int(_value(data, keyword))
    except (ValueError, TypeError, OverflowError):
        return default


def numbers(data: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """Finite numbers of a tag; None where it is absent, or holds something else than `count` of them."""
    value = _value(data, keyword)
    items = value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else [value]
    try:
        found = tuple(float(item) for item in items)
    except (ValueError, TypeError, OverflowError):
        return None
    return found if len(found) == count and np.all(np.isfinite(found)) else None


def first(data: Dataset, keyword: str) -> float | None:
    """The first number of a tag that may hold several."""
    value = _value(data, keyword)
    items = value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else [value]
    try:
        found = float(items[0])
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return found if np.isfinite(found) else None


def parts(data: Dataset | None, keyword: str) -> list[Dataset]:
    """The items of a sequence; none where it is absent."""
    from pydicom.sequence import Sequence as Items

    value = None if data is None else _value(data, keyword)
    return list(value) if isinstance(value, Items) else []


def table_entries(table: Dataset) -> NDArray[np.int64]:
    """The entries of a lookup table: numbers, or words of 16 bits (8 where there are too few bytes)."""
    value, count = _value(table, "LUTData"), int((numbers(table, "LUTDescriptor", 3) or (0,))[0]) or 2**16
    if isinstance(value, bytes):
        return np.frombuffer(value[: len(value) // 2 * 2], dtype="<u2" if len(value) >= 2 * count else "u1")[
            :count
        ].astype(np.int64)
    try:
        return np.asarray(value, dtype=np.int64).reshape(-1)
    except (ValueError, TypeError, OverflowError):
        return np.zeros(0, dtype=np.int64)


def variants(headers: Sequence[Dataset], keyword: str) -> int:
    """How many values a tag takes."""
    return len({str(_value(header, keyword)) for header in headers})


def _value(data: Dataset, keyword: str) -> Any:
    with _quiet():
        try:
            return data.get(keyword)
        except _damage():
            return None


def _uid_name(uid: object) -> str:
    from pydicom.uid import UID_dictionary

    # An unregistered UID can hold a name or a date of birth.
    return UID_dictionary[str(uid)][0] if str(uid) in UID_dictionary else ""


def _read(path: Path, tags: tuple[str, ...], *, pixels: bool) -> Dataset:
    try:
        import pydicom
    except ImportError as error:
        raise missing_extra("pydicom", "radiomics", "reading DICOM files") from error
    if not is_dicom(path):
        raise UnreadableError(f"{path}: {'not a DICOM file' if path.is_file() else 'no such file'}")
    with _quiet():
        try:
            return pydicom.dcmread(path, specific_tags=list(tags), stop_before_pixels=not pixels)
        except _damage():
            raise UnreadableError(f"{path}: a damaged DICOM file") from None


def _damage() -> tuple[type[Exception], ...]:
    """What pydicom and its decoders raise on damaged bytes."""
    from pydicom.errors import BytesLengthException, InvalidDicomError

    return (
        OSError, ValueError, AttributeError, NotImplementedError, RuntimeError, TypeError, IndexError, KeyError,
        EOFError, struct.error, zlib.error, OverflowError, AssertionError, ArithmeticError, BytesLengthException,
        InvalidDicomError,
    )  # fmt: skip


@contextmanager
def _quiet() -> Iterator[None]:
    """Without pydicom's warnings and log, which quote values of the file."""
    from pydicom import config

    def drop(record: logging.LogRecord) -> bool:
        return False

    loggers = [logging.getLogger(name) for name in _LOGGERS]
    for logger in loggers:
        logger.addFilter(drop)
    try:
        with warnings.catch_warnings(), config.disable_value_validation():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger in loggers:
            logger.removeFilter(drop)


def _decoded(data: Dataset) -> NDArray[Any]:
    from pydicom.pixels import get_decoder, pixel_array
    from pydicom.uid import JPEGExtended12Bit

    syntax = data.file_meta.TransferSyntaxUID
    twelve_bits = syntax == JPEGExtended12Bit and whole(data, "BitsStored") > 8
    if twelve_bits or not get_decoder(syntax).is_available:
        return _decoded_by_gdcm(data)
    return pixel_array(data)


def _decoded_by_gdcm(data: Dataset) -> NDArray[Any]:
    from pydicom import Dataset
    from pydicom.uid import UID, SecondaryCaptureImageStorage

    if text(data, "PhotometricInterpretation") == "PALETTE COLOR":
        raise NotImplementedError("GDCM would apply the palette by itself")
    # Only the tags that say how pixels are stored: GDCM would apply a rescaling.
    bare = Dataset()
    for keyword in (*PIXEL_TAGS, "PixelData"):
        if keyword in data:
            bare[keyword] = data[keyword]
    bare.file_meta = data.file_meta.__class__()
    bare.file_meta.TransferSyntaxUID = data.file_meta.TransferSyntaxUID
    bare.SOPClassUID = bare.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    bare.SOPInstanceUID = bare.file_meta.MediaStorageSOPInstanceUID = UID("2.25.1")
    sitk = simple_itk()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pixels.dcm"
        bare.save_as(path, enforce_file_format=True)
        return sitk.GetArrayFromImage(sitk.ReadImage(str(path), imageIO="GDCMImageIO"))
