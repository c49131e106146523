"""Image files from a browser: known by content, bounded before they are decoded, leading to no other file."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from osml.imaging.errors import DimensionError, ImagingError, UnreadableError
from osml.serving.image_bytes import MAX_BYTES, MAX_VOXELS, checked


def packed(raw: bytes) -> bytes:
    """Gzip without the time of day: parameters name their cases, and all workers must find the same names."""
    return gzip.compress(raw, mtime=0)


def nifti(sizes: tuple[int, ...] = (4, 3, 2), *, order: str = "<", magic: bytes = b"n+1\0", values: int = -1) -> bytes:
    """A NIfTI-1 file of int16 zeros; `values` bytes of them, default as many as are declared."""
    head = bytearray(352)
    head[0:4] = struct.pack(f"{order}i", 348)
    head[40:56] = struct.pack(f"{order}8h", len(sizes), *sizes, *[1] * (7 - len(sizes)))
    head[70:74] = struct.pack(f"{order}2h", 4, 16)
    head[76:108] = struct.pack(f"{order}8f", 1, *[1.0] * 7)
    head[108:112] = struct.pack(f"{order}f", 352)
    head[344:348] = magic
    return bytes(head) + bytes(int(np.prod(sizes)) * 2 if values < 0 else values)


def nifti_2(sizes: tuple[int, ...] = (4, 3, 2)) -> bytes:
    head = bytearray(544)
    head[0:12] = struct.pack("<i", 540) + b"n+2\0\r\n\032\n"
    head[12:16] = struct.pack("<2h", 4, 16)
    head[16:80] = struct.pack("<8q", len(sizes), *sizes, *[1] * (7 - len(sizes)))
    head[168:176] = struct.pack("<q", 544)
    return bytes(head) + bytes(int(np.prod(sizes)) * 2)


def nrrd(extra: str = "", *, sizes: str = "4 3 2", encoding: str = "raw", values: bytes = bytes(48)) -> bytes:
    head = f"NRRD0004\n# made for a test\ntype: short\ndimension: 3\nsizes: {sizes}\nencoding: {encoding}\n{extra}"
    return head.encode() + b"endian: little\n\n" + values


def meta(data: str = "LOCAL", *, sizes: str = "4 3 2", extra: str = "", values: bytes = bytes(48)) -> bytes:
    head = (
        f"ObjectType = Image\nNDims = 3\nDimSize = {sizes}\n{extra}ElementType = MET_SHORT\nElementDataFile = {data}\n"
    )
    return head.encode() + values


@pytest.mark.parametrize(
    ("raw", "suffix"),
    [
        (nifti(), ".nii"),
        (nifti(order=">"), ".nii"),
        (nifti_2(), ".nii"),
        (nifti((4, 3, 2, 1)), ".nii"),
        (packed(nifti()), ".nii.gz"),
        (packed(nifti()[:200]) + packed(nifti()[200:]), ".nii.gz"),  # members, as pigz and bgzip write
        (nrrd(), ".nrrd"),
        (nrrd(encoding="gzip", values=packed(bytes(48))), ".nrrd"),
        (nrrd("key:=data file: x\n"), ".nrrd"),
        (meta(), ".mha"),
        (meta(extra="CompressedData = True\n", values=packed(bytes(48))), ".mha"),
    ],
)
def test_a_volume_is_known_by_its_content(raw: bytes, suffix: str) -> None:
    assert checked(raw, "volume") == (raw, suffix)


@pytest.mark.parametrize(
    ("raw", "error", "words"),
    [
        (b"", UnreadableError, "is empty"),
        (b"%PDF-1.7", UnreadableError, "is a PDF"),
        (b"PK\x03\x04 slices", UnreadableError, "the file is an archive"),
        (bytes(128) + b"DICM", UnreadableError, "the file is a DICOM file"),
        (b"age,sex\n1,2\n", UnreadableError, r"is not NIfTI \(\.nii, \.nii\.gz\), NRRD"),
        (b"\x89PNG\r\n", UnreadableError, "is not NIfTI"),
        (nifti(magic=b"ni1\0"), UnreadableError, "names a second file"),
        (nifti()[:350], UnreadableError, "cut off|damaged|is not"),
        (nifti((3000, 3000, 3000), values=0), DimensionError, "3000×3000×3000 voxels are declared"),
        (packed(nifti((3000, 3000, 3000), values=0)), DimensionError, "voxels are declared"),
        (nifti((4, 3, 2, 5)), DimensionError, "5 volumes; one is expected"),
        (nifti((4, 3)), DimensionError, "2D values of 4×3; a volume is 3D"),
        (nifti((4, -3, 2), values=0), UnreadableError, "damaged"),
        (packed(nifti(values=2**24)), UnreadableError, "unpacks to more than the 400 bytes"),
        (packed(nifti(values=8)), UnreadableError, "unpacks to 360 bytes; its header declares 400"),
        (packed(b"age,sex\n" * 100), UnreadableError, r"is not NIfTI \(\.nii\.gz\)"),
        (b"\x1f\x8b\x08\x00garbage", UnreadableError, "damaged|not NIfTI"),
        (nrrd("data file: /etc/passwd\n"), UnreadableError, "names another file"),
        (nrrd("Data  File: LIST\n"), UnreadableError, "names another file"),
        (nrrd("datafile: x.raw\n"), UnreadableError, "names another file"),
        (nrrd("byte skip: 10\n"), UnreadableError, "skip lines or bytes"),
        (nrrd(encoding="hex"), UnreadableError, "encoding 'hex' is not read"),
        (nrrd(sizes="9999 9999 9999"), DimensionError, "voxels are declared"),
        (nrrd(sizes="4 x 2"), UnreadableError, "sizes '4 x 2'"),
        (nrrd(encoding="gzip", values=packed(bytes(2**23))), UnreadableError, "unpacks to more than"),
        (nrrd()[:60], UnreadableError, "does not end"),
        (meta("/etc/passwd"), UnreadableError, "names another file"),
        (meta("LIST"), UnreadableError, "names another file"),
        (meta(extra="ElementDataFile : /etc/passwd\n"), UnreadableError, "names another file"),
        (meta(extra="DimSize = 1 1 1\n"), UnreadableError, "'DimSize' twice"),
        (meta(sizes="9999 9999 9999"), DimensionError, "voxels are declared"),
        (meta(extra="ElementNumberOfChannels = 3\n"), UnreadableError, "one channel"),
    ],
)
def test_a_file_that_could_do_harm_is_refused(raw: bytes, error: type[ImagingError], words: str) -> None:
    with pytest.raises(error, match=words):
        checked(raw, "volume")


def test_a_large_file_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("osml.serving.image_bytes.MAX_BYTES", 100)
    with pytest.raises(UnreadableError, match="at most 0 MB"):
        checked(nifti(), "volume")
    assert MAX_BYTES == 200 * 2**20
    assert MAX_VOXELS == 512**3


def test_pictures_and_volumes_are_told_apart() -> None:
    assert checked(b"\x89PNG\r\n", "image")[1] == ".png"
    assert checked(bytes(128) + b"DICM", "image")[1] == ".dcm"
    with pytest.raises(UnreadableError, match="the file is a DICOM file"):
        checked(bytes(128) + b"DICM", "volume")
    with pytest.raises(UnreadableError, match="is not PNG, JPEG, TIFF or DICOM"):
        checked(nifti(), "image")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("compressed", [True, False])
def test_what_itk_writes_is_accepted(tmp_path: Path, suffix: str, compressed: bool) -> None:
    sitk = pytest.importorskip("SimpleITK")
    image = sitk.GetImageFromArray(np.arange(60, dtype=np.int16).reshape(3, 4, 5))
    image.SetMetaData("note", "a key of somebody's own")
    sitk.WriteImage(image, str(tmp_path / f"x{suffix}"), compressed)
    assert checked((tmp_path / f"x{suffix}").read_bytes(), "volume")[1] == suffix
