"""ZIP archives from strangers: what is unpacked, and every kind that is refused whole."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
from pathlib import Path

import pytest

from osml.archives import Limits, unpack
from osml.errors import ArchiveError


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return stream.getvalue()


def with_mode(name: str, content: bytes, mode: int) -> bytes:
    stream = io.BytesIO()
    entry = zipfile.ZipInfo(name)
    entry.external_attr = mode << 16
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(entry, content)
    return stream.getvalue()


def test_files_come_out_as_they_went_in(tmp_path: Path) -> None:
    files = {"b/Röntgen 2.png": b"\x89PNG two", "a.nii.gz": b"\x1f\x8b gz", "b/deep/x.dcm": b"x" * 3_000_000}
    extra = {"__MACOSX/._a": b"", "b/.DS_Store": b"junk"}
    found = unpack(zipped(files | extra), tmp_path / "images")
    assert {name: path.read_bytes() for name, path in found.items()} == files
    assert list(found) == sorted(files)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["images"]
    assert all(path.is_relative_to(tmp_path / "images") for path in found.values())


@pytest.mark.parametrize(
    "name, words",
    [
        ("../../x.png", "points outside"),
        ("a/../../x.png", "points outside"),
        ("/etc/x.png", "points outside"),
        ("a\x00.png", "not allowed"),
        ("a\\b.png", "not allowed"),
        ("C:x.png", "not allowed"),
        (".hidden", "not allowed"),
        ("a//b.png", "not allowed"),
        ("nul.png", "not allowed"),
        ("x\u202egnp.exe", "not allowed"),
        ("<script>.png", "not allowed"),
        ("x" * 4_096, "more than 120 bytes"),
        ("a/" * 20 + "x.png", "one inside the other"),
    ],
)
def test_hostile_names_are_refused(tmp_path: Path, name: str, words: str) -> None:
    raw = zipped({"good.png": b"1", "PLACEHOLDER" if "\x00" in name else name: b"2"})
    if "\x00" in name:  # the writer would cut it off
        raw = zipped({"good.png": b"1", "aZ.png": b"2"}).replace(b"aZ.png", b"a\x00.png")
    with pytest.raises(ArchiveError, match=words):
        unpack(raw, tmp_path / "images")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFBLK])
def test_links_and_devices_are_refused(tmp_path: Path, kind: int) -> None:
    with pytest.raises(ArchiveError, match="link or a device"):
        unpack(with_mode("x.png", b"/etc/passwd", kind | 0o777), tmp_path / "images")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "files, words",
    [
        ({"a.png": bytes(50 * 2**20)}, "times its packed size"),
        ({f"{i}.png": bytes(2**20) for i in range(40)}, "times its packed size"),
        ({f"{i}.png": b"" for i in range(60)}, "more than 50 files"),
        ({"inner.zip": zipped({"a.png": b"1"})}, "ZIP archive inside"),
        ({"picture.png": zipped({"a.png": b"1"})}, "ZIP archive inside"),
        ({"a.tar": b"a".ljust(257, b"\0") + b"ustar\x0000"}, "TAR archive inside"),
        ({"a.tar.gz": b"\x1f\x8b"}, "compressed file inside"),
        ({"A.png": b"1", "a.PNG": b"2"}, "two files"),
        ({"a": b"1", "a/b.png": b"2"}, "file and a folder"),
        ({}, "no file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_archives_that_are_refused(tmp_path: Path, files: dict[str, bytes], words: str) -> None:
    with pytest.raises(ArchiveError, match=words):
        unpack(zipped(files), tmp_path / "images", Limits(entries=50))
    assert list(tmp_path.iterdir()) == []


def test_sizes_are_bounded(tmp_path: Path) -> None:
    files = {"a.png": b"12345", "b.png": b"12345"}
    with pytest.raises(ArchiveError, match="at most"):
        unpack(zipped(files), tmp_path / "images", Limits(file_bytes=4))
    with pytest.raises(ArchiveError, match="at most"):
        unpack(zipped(files), tmp_path / "images", Limits(total_bytes=9))
    assert len(unpack(zipped(files), tmp_path / "images", Limits(file_bytes=5, total_bytes=10))) == 2


def test_an_entry_that_lies_about_its_size(tmp_path: Path) -> None:
    raw = bytearray(zipped({"a.png": b"0" * 100_000}))
    for magic, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = raw.find(magic) + offset
        raw[at : at + 4] = struct.pack("<I", 50)
    with pytest.raises(ArchiveError):
        unpack(bytes(raw), tmp_path / "images")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["no zip", "cut", "changed", "locked", "lzma", "many"])
def test_damaged_archives(tmp_path: Path, damage: str) -> None:
    raw = zipped({"a.png": bytes(range(256)) * 40}, zipfile.ZIP_STORED)
    raw = {
        "no zip": b"\x89PNG" + raw,
        "cut": raw[:-30],
        "changed": raw[:500] + bytes([raw[500] ^ 1]) + raw[501:],
        "locked": raw.replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"),
        "lzma": zipped({"a.png": b"1"}, zipfile.ZIP_LZMA),
        "many": raw[:-12] + struct.pack("<HIIH", 60_000, 47, len(raw) - 69, 0),
    }[damage]
    with pytest.raises(ArchiveError):
        unpack(raw, tmp_path / "images")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(ArchiveError, match="exists"):
        unpack(zipped({"a.png": b"1"}), tmp_path / "images")
    assert list((tmp_path / "images").iterdir()) == []
