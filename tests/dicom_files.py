"""DICOM files made from arrays, as the standard defines them."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    SegmentationStorage,
)  # fmt: skip

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def write_file(
    path: Path, array: NDArray[Any], sop_class: str, syntax: str = ExplicitVRLittleEndian, **tags: Any
) -> Path:
    """One file: (y, x), (frames, y, x) or colour (y, x, 3); `tags` overwrite, None removes."""
    colour = array.ndim == 3 and array.shape[-1] == 3 and tags.get("SamplesPerPixel") == 3
    frames = array.shape[0] if array.ndim == 3 and not colour else 1
    rows, columns = array.shape[:2] if colour else array.shape[-2:]
    bits = array.dtype.itemsize * 8
    data = Dataset()
    base = {
        "SOPClassUID": sop_class, "SOPInstanceUID": f"2.25.{zlib.crc32(path.name.encode())}",
        "SeriesInstanceUID": "2.25.77",
        "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "Rows": rows, "Columns": columns,
        "BitsAllocated": bits, "BitsStored": bits, "HighBit": tags.get("BitsStored", bits) - 1,
        "PixelRepresentation": int(array.dtype.kind == "i"), **({"NumberOfFrames": frames} if frames > 1 else {}),
    }  # fmt: skip
    for name, value in {**base, **tags}.items():
        if value is not None:
            setattr(data, name, value)
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    if "PixelData" not in tags:
        raw = array.astype(array.dtype.newbyteorder("<")).tobytes()
        data.PixelData = raw + b"\0" * (len(raw) % 2)
        data["PixelData"].VR = "OW" if bits > 8 else "OB"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some tests store nonsense on purpose
        data.save_as(path, enforce_file_format=True)
    return path


def write_slice(path: Path, array: NDArray[Any], position: Sequence[float], **tags: Any) -> Path:
    """One CT slice; pixels of 0.5 mm between rows and 0.75 mm between columns."""
    place = {
        "ImagePositionPatient": list(position),
        "ImageOrientationPatient": list(AXIAL),
        "PixelSpacing": [0.5, 0.75],
    }
    return write_file(path, array, CTImageStorage, **{**place, **tags})


def write_series(
    folder: Path, array: NDArray[Any], *, step: float = 3.0, order: Sequence[int] = (), **tags: Any
) -> Path:
    """Axial slices, `step` mm apart from z = -40, in files numbered by `order` (the array's by default)."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, values in enumerate(array):
        number = order[k] if order else k
        write_slice(folder / f"IM{number:04d}.dcm", values, (-10.0, 20.0, -40.0 + k * step), **tags)
    return folder


def item(**tags: Any) -> Dataset:
    """A dataset of some tags; lists of datasets become sequences."""
    out = Dataset()
    for name, value in tags.items():
        setattr(out, name, value)
    return out


def place(position: Sequence[float], segment: int | None = None) -> Dataset:
    """The functional groups of one frame."""
    out = item(PlanePositionSequence=[item(ImagePositionPatient=list(position))])
    if segment is not None:
        out.SegmentIdentificationSequence = [item(ReferencedSegmentNumber=segment)]
    return out


def shared(orientation: Sequence[float] = AXIAL, spacing: Sequence[float] = (0.5, 0.75), **groups: Any) -> Dataset:
    """The functional groups of all frames."""
    return item(
        PlaneOrientationSequence=[item(ImageOrientationPatient=list(orientation))],
        PixelMeasuresSequence=[item(PixelSpacing=list(spacing))], **groups,
    )  # fmt: skip


def write_enhanced(path: Path, array: NDArray[Any], positions: Sequence[Sequence[float]], **groups: Any) -> Path:
    """An enhanced multi-frame file."""
    return write_file(
        path, array, EnhancedCTImageStorage, SharedFunctionalGroupsSequence=[shared(**groups)],
        PerFrameFunctionalGroupsSequence=[place(p) for p in positions],
    )  # fmt: skip


def write_segmentation(
    path: Path, frames: NDArray[Any], positions: Sequence[Sequence[float]], segments: Sequence[int],
    groups: Mapping[str, Any] | None = None, **tags: Any,
) -> Path:  # fmt: skip
    """A binary segmentation, one bit a pixel, rows packed from the lowest bit on (PS3.5 8.1.1)."""
    packed = np.packbits(frames.astype(bool).ravel(), bitorder="little").tobytes()
    base = {
        "SegmentationType": "BINARY", "BitsAllocated": 1, "BitsStored": 1, "HighBit": 0, "PixelRepresentation": 0,
        "NumberOfFrames": len(frames), "SharedFunctionalGroupsSequence": [shared(**(groups or {}))],
        "PerFrameFunctionalGroupsSequence": [place(p, s) for p, s in zip(positions, segments, strict=True)],
        "PixelData": packed + b"\0" * (len(packed) % 2),
    }  # fmt: skip
    return write_file(path, frames.astype(np.uint8), SegmentationStorage, **{**base, **tags})


def write_radiograph(path: Path, array: NDArray[Any], **tags: Any) -> Path:
    """A digital radiograph."""
    return write_file(path, array, DigitalXRayImageStorageForPresentation, **tags)
