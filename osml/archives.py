"""ZIP archives from strangers: every entry is judged before the first byte is written, and all is kept or nothing."""

from __future__ import annotations

import io
import re
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from osml.errors import ArchiveError

_END = b"PK\x05\x06"
_END_SIZE = 22
_ZIP64_LOCATOR = b"PK\x06\x07"
_CHUNK = 2**20
_SMALL = 32 * 2**20  # below it an empty mask may be as dense as it likes
# A name is one that every file system keeps as it is: no separators, quotes, wildcards, control characters.
_NAME = re.compile(r"[^\W_][\w .+()=@,-]*", re.UNICODE)
_WINDOWS = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_NESTED = {
    b"PK\x03\x04": "a ZIP archive",
    b"PK\x05\x06": "a ZIP archive",
    b"Rar!": "a RAR archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"\xfd7zXZ": "an XZ file",
    b"BZh": "a bzip2 file",
    b"\x28\xb5\x2f\xfd": "a Zstandard file",
}


@dataclass(frozen=True)
class Limits:
    """What an archive may hold.

    entries : files and folders
    file_bytes, total_bytes : of one file and of all together, once unpacked
    ratio : unpacked bytes per packed byte, of the archive and of each file, where they are above 32 MB
    depth : folders one inside the other
    name_bytes : of one file's or folder's name, in UTF-8
    """

    entries: int = 5_000
    file_bytes: int = 500 * 2**20
    total_bytes: int = 2 * 2**30
    ratio: float = 200.0
    depth: int = 6
    name_bytes: int = 120


DEFAULT_LIMITS = Limits()


def unpack(raw: bytes, folder: Path, limits: Limits = DEFAULT_LIMITS) -> dict[str, Path]:
    """Unpack a ZIP archive into a folder that does not exist yet.

    Parameters
    ----------
    raw : the archive; neither its name nor its ending plays a part
    folder : made with the files inside; after an error it does not exist
    limits : bounds that hold before and while unpacking

    Returns
    -------
    dict : name inside the archive, folders with `/` → file on disk, in the order of the names. What macOS adds
        (`__MACOSX/`, `.DS_Store`) is left out.

    Raises
    ------
    ArchiveError
        Not a ZIP file, encrypted, damaged, too large; links, absolute or upward paths, names that a file system
        would change, equal names, archives inside.
    """
    if folder.exists():
        raise ArchiveError(f"{folder.name} exists; nothing was unpacked")
    _bounded_directory(raw, limits)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            entries = _judged(archive, limits)
            for name in sorted(entries):
                _write(archive, entries[name], temporary / name, limits)
        temporary.rename(folder)
    except (zipfile.BadZipFile, zlib.error, EOFError, struct.error, NotImplementedError, UnicodeError) as error:
        raise ArchiveError(f"the archive cannot be read: {error}", do="Make it again, as a plain ZIP file.") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # gone after the rename
    return {name: folder / name for name in sorted(entries)}


def _bounded_directory(raw: bytes, limits: Limits) -> None:
    """Refuse a list of entries that would fill the memory, before it is read."""
    if not raw.startswith((b"PK\x03\x04", _END)):
        raise ArchiveError("the uploaded file is not a ZIP archive", do="Pack the images as a plain ZIP file.")
    end = len(raw) - _END_SIZE
    if raw[end : end + 4] != _END or raw[-2:] != b"\x00\x00":
        end = raw.rfind(_END, max(0, len(raw) - 65_536 - _END_SIZE))
    if end < 0 or len(raw) - end < _END_SIZE:
        raise ArchiveError("the archive has no end; it was cut off", do="Upload it again.")
    if raw[max(0, end - 20) : end].startswith(_ZIP64_LOCATOR):
        raise ArchiveError("the archive is a ZIP64 file, which is for more than 4 GB", do="Split it.")
    count, size = struct.unpack("<HI", raw[end + 10 : end + 16])
    if count > limits.entries or size > limits.entries * 512:
        raise ArchiveError(f"the archive lists more than {limits.entries} files", do="Split it.")


def _judged(archive: zipfile.ZipFile, limits: Limits) -> dict[str, zipfile.ZipInfo]:
    """The entries to write, by name; nothing is unpacked when one of them is not what a file of images is."""
    entries = archive.infolist()
    if len(entries) > limits.entries:
        raise ArchiveError(f"the archive lists more than {limits.entries} files", do="Split it.")
    kept: dict[str, zipfile.ZipInfo] = {}
    folded: dict[str, str] = {}
    for entry in entries:
        name = entry.orig_filename
        _check_kind(entry, name)
        _check_name(name, limits)
        if entry.is_dir() or _of_macos(name):
            continue
        if entry.file_size > limits.file_bytes:
            raise ArchiveError(f"{_shown(name)} has {_mb(entry.file_size)}; at most {_mb(limits.file_bytes)} are read")
        if entry.file_size > _SMALL and entry.file_size > limits.ratio * max(1, entry.compress_size):
            raise ArchiveError(f"{_shown(name)} would unpack to {_mb(entry.file_size)}, {_too_dense(limits)}")
        other = folded.setdefault(name.casefold(), name)
        if name in kept or other != name:
            raise ArchiveError(f"two files are called {_shown(other)} (upper or lower case does not count)")
        kept[name] = entry
    total = sum(entry.file_size for entry in kept.values())
    packed = sum(entry.compress_size for entry in kept.values())
    if total > limits.total_bytes:
        raise ArchiveError(f"the archive would unpack to {_mb(total)}; at most {_mb(limits.total_bytes)} are read")
    if total > _SMALL and total > limits.ratio * max(1, packed):
        raise ArchiveError(f"the archive would unpack to {_mb(total)}, {_too_dense(limits)}")
    if not kept:
        raise ArchiveError("the archive holds no file")
    for name in kept:
        above = name.casefold()
        while "/" in above:
            above = above.rpartition("/")[0]
            if above in folded:
                raise ArchiveError(f"{_shown(folded[above])} is a file and a folder at once")
    return kept


def _check_kind(entry: zipfile.ZipInfo, name: str) -> None:
    mode = entry.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ArchiveError(f"{_shown(name)} is a link or a device, not a file", do="Pack the files themselves.")
    if entry.flag_bits & 0x1:
        raise ArchiveError(f"{_shown(name)} is encrypted", do="Pack the files without a password.")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ArchiveError(f"{_shown(name)} is packed by a method other than deflate", do="Make a plain ZIP file.")


def _check_name(name: str, limits: Limits) -> None:
    if _of_macos(name):
        return  # left out, so its name never becomes a path
    parts = name.removesuffix("/").split("/")
    if name.startswith("/") or ".." in parts:
        raise ArchiveError(f"{_shown(name)} points outside the archive; nothing was unpacked")
    if len(parts) > limits.depth + 1:
        raise ArchiveError(f"{_shown(name)}: more than {limits.depth} folders one inside the other")
    for part in parts:
        if len(part.encode("utf-8", errors="replace")) > limits.name_bytes:
            raise ArchiveError(f"{_shown(part)}: a name of more than {limits.name_bytes} bytes", do="Shorten it.")
        if not _NAME.fullmatch(part) or part[-1] in " ." or _WINDOWS.fullmatch(part):
            raise ArchiveError(
                f"{_shown(name)}: a name of characters that are not allowed",
                do="Use letters, digits, '.', '-', '_' and blanks, beginning with a letter or digit.",
            )


def _of_macos(name: str) -> bool:
    return name.startswith("__MACOSX/") or name.rpartition("/")[2] in (".DS_Store", "Thumbs.db")


def _write(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path, limits: Limits) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with archive.open(entry) as source, path.open("xb") as out:
        while chunk := source.read(_CHUNK):
            if not written:
                _check_content(chunk, entry.orig_filename)
            written += len(chunk)
            if written > min(entry.file_size, limits.file_bytes):
                raise ArchiveError(f"{_shown(entry.orig_filename)} is longer than the archive says")
            out.write(chunk)
    if written != entry.file_size:
        raise ArchiveError(f"{_shown(entry.orig_filename)} is shorter than the archive says")


def _check_content(start: bytes, name: str) -> None:
    nested = next((words for magic, words in _NESTED.items() if start.startswith(magic)), "")
    if start[257:262] == b"ustar":
        nested = "a TAR archive"
    if start.startswith(b"\x1f\x8b") and not name.lower().endswith(".nii.gz"):
        nested = "a compressed file"
    if nested:
        raise ArchiveError(f"{_shown(name)} is {nested} inside the archive", do="Pack its files themselves.")


def _too_dense(limits: Limits) -> str:
    return f"more than {limits.ratio:g} times its packed size"


def _mb(size: int) -> str:
    return f"{size / 2**20:,.0f} MB"


def _shown(name: str) -> str:
    short = name if len(name) <= 60 else name[:59] + "…"
    return repr(short)
