"""Which DICOM files are read from strangers: by their class and by how their pixels are stored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from osml.imaging import dicom
from osml.imaging.errors import UnreadableError

if TYPE_CHECKING:
    from pydicom import Dataset

_IMAGE = "1.2.840.10008.5.1.4.1.1."
# Computed and digital radiography, CT, MR, PET, ultrasound, secondary capture, angiography; segmentations as masks.
CLASSES = frozenset(
    _IMAGE + tail
    for tail in (
        "1", "1.1", "1.1.1", "1.2", "1.2.1", "2", "2.1", "2.2", "4", "4.1", "4.4", "6.1", "6.2", "7", "7.1", "7.2",
        "7.3", "7.4", "12.1", "12.1.1", "12.2", "12.2.1", "13.1.1", "13.1.2", "13.1.3", "20", "66.4", "66.7", "128",
        "130",
    )
)  # fmt: skip
_SYNTAX = "1.2.840.10008.1.2"
# Uncompressed, deflated, JPEG, lossless JPEG, JPEG-LS, JPEG 2000, RLE; no film, and nothing that refers elsewhere.
SYNTAXES = frozenset(
    (
        _SYNTAX, f"{_SYNTAX}.1", f"{_SYNTAX}.1.99", f"{_SYNTAX}.2", f"{_SYNTAX}.5",
        *(f"{_SYNTAX}.4.{n}" for n in (50, 51, 57, 70, 80, 81, 90, 91)),
    )
)  # fmt: skip


def check_allowed(path: Path, header: Dataset) -> None:
    """Refuse a file of another class or another way of storing pixels; the header is what `dicom.read_header` gives.

    Raises
    ------
    UnreadableError
    """
    if dicom.text(header, "SOPClassUID") not in CLASSES:
        raise UnreadableError(
            f"{path}: {dicom.kind(header)}, which is not read", do="Give an image, or a segmentation as a mask."
        )
    found = getattr(header, "file_meta", {}).get("TransferSyntaxUID")
    if str(found) not in SYNTAXES:
        raise UnreadableError(
            f"{path}: pixels stored as {dicom.transfer_syntax(header)}, which is not read",
            do="Export it uncompressed.",
        )
