"""Uploaded files of one image: checked by content and written under names of our own, a DICOM series as a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from osml.archives import Limits, unpack
from osml.imaging.errors import ImagingError, UnreadableError
from osml.serving.form import ImageField
from osml.serving.image_bytes import MAX_BYTES, checked

File = bytes | Path
SERIES_BYTES = 512 * 2**20
SERIES_FILES = 3_000
_ZIP = b"PK\x03\x04"


def received(folder: Path, field: ImageField, given: Sequence[File]) -> list[str]:
    """Names in `folder` of what was written for one input: a file each, or one folder of slices.

    Several files of a volume, and a ZIP archive of one, are the slices of a single DICOM series.

    Raises
    ------
    ImagingError, ArchiveError
        A file, named by the input, that is not what the input takes.
    """
    key = field.key
    # Before anything is read: thousands of files, each of which is small enough, would fill the memory.
    total = sum(one.stat().st_size for one in given if isinstance(one, Path) and one.is_file())
    if field.kind == "volume" and total > SERIES_BYTES:
        raise UnreadableError(f"{key}: {total / 2**20:,.0f} MB; at most {SERIES_BYTES // 2**20} MB are read")
    files = [_content(key, one) for one in given]
    if field.kind == "volume":
        if len(files) == 1 and files[0].startswith(_ZIP):
            files = _unpacked(folder / f"{key}.unpacked", files[0])
        if len(files) > 1 or _is_dicom(files[0]):
            return [_series(folder, key, files)]
    return [_single(folder, f"{key}.{k}" if k else key, field, raw) for k, raw in enumerate(files)]


def may_be_series(files: Sequence[File]) -> bool:
    """Whether several files are slices of one series: DICOM, each of them."""
    return all(_is_dicom(_begin(one)) for one in files)


def _begin(given: File) -> bytes:
    if isinstance(given, bytes):
        return given[:132]
    if not given.is_file():
        return b""  # that it is missing is told where it is read
    with given.open("rb") as stream:
        return stream.read(132)


def _is_dicom(raw: bytes) -> bool:
    return raw[128:132] == b"DICM"


def _content(key: str, given: File) -> bytes:
    if isinstance(given, bytes):
        return given
    if not given.is_file():
        raise UnreadableError(f"{key}: no file at {given}")
    if given.stat().st_size > SERIES_BYTES:
        raise UnreadableError(f"{key}: larger than {SERIES_BYTES // 2**20} MB")
    return given.read_bytes()


def _unpacked(folder: Path, raw: bytes) -> list[bytes]:
    """The files of an archive; a DICOMDIR only lists the others."""
    limits = Limits(entries=SERIES_FILES, file_bytes=MAX_BYTES, total_bytes=SERIES_BYTES)
    found = unpack(raw, folder, limits)
    return [path.read_bytes() for name, path in found.items() if name.rpartition("/")[2] != "DICOMDIR"]


def _series(folder: Path, key: str, files: Sequence[bytes]) -> str:
    if not all(map(_is_dicom, files)):
        raise UnreadableError(
            f"{key}: {len(files)} files, not all of them DICOM",
            do="Give one NIfTI, NRRD or MetaImage file, or the slices of one DICOM series.",
        )
    if len(files) > SERIES_FILES:
        raise UnreadableError(f"{key}: {len(files)} slices; at most {SERIES_FILES:,} are read")
    total = sum(map(len, files))
    if total > SERIES_BYTES:
        raise UnreadableError(f"{key}: {total / 2**20:,.0f} MB; at most {SERIES_BYTES // 2**20} MB are read")
    (folder / key).mkdir()
    for number, raw in enumerate(files):
        (folder / key / f"{number:05d}.dcm").write_bytes(raw)
    return key


def _single(folder: Path, name: str, field: ImageField, content: bytes) -> str:
    try:
        raw, suffix = checked(content, field.kind)
    except ImagingError as error:
        raise type(error)(f"{field.key}: {error.what}", why=error.why, do=error.do) from None
    (folder / f"{name}{suffix}").write_bytes(raw)
    return f"{name}{suffix}"
