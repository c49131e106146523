"""Image files that arrive from a browser: known by their content, bounded by their header before anything is decoded.

NIfTI (.nii, .nii.gz), NRRD and MetaImage with header and values in one file; PNG, JPEG, TIFF and DICOM for pictures. A
header that names another file is refused: the reader would open whatever it names on the server. What a DICOM file is,
and whether text is burned into it, the process that decodes it finds out.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from math import prod

from osml.imaging.errors import DimensionError, UnreadableError

MAX_BYTES = 200 * 2**20
MAX_VOXELS = 2**27  # 512 × 512 × 512
MAX_PIXELS = 80_000_000
# What may stand before and after the values (extensions of NIfTI, padding).
_SLACK = 2**20
_HEADER = 2**16
_NRRD_BYTES = {
    "signed char": 1, "int8": 1, "int8_t": 1, "uchar": 1, "unsigned char": 1, "uint8": 1, "uint8_t": 1,
    "short": 2, "short int": 2, "signed short": 2, "signed short int": 2, "int16": 2, "int16_t": 2,
    "ushort": 2, "unsigned short": 2, "unsigned short int": 2, "uint16": 2, "uint16_t": 2,
    "int": 4, "signed int": 4, "int32": 4, "int32_t": 4, "uint": 4, "unsigned int": 4, "uint32": 4, "uint32_t": 4,
    "longlong": 8, "long long": 8, "int64": 8, "int64_t": 8, "uint64": 8, "uint64_t": 8, "unsigned long long": 8,
    "float": 4, "double": 8,
}  # fmt: skip
_META_BYTES = {
    "MET_CHAR": 1, "MET_UCHAR": 1, "MET_SHORT": 2, "MET_USHORT": 2, "MET_INT": 4, "MET_UINT": 4, "MET_LONG": 8,
    "MET_ULONG": 8, "MET_LONG_LONG": 8, "MET_ULONG_LONG": 8, "MET_FLOAT": 4, "MET_DOUBLE": 8,
}  # fmt: skip
_KNOWN = {
    b"%PDF": "a PDF",
    b"PK\x03\x04": "an archive",
    b"BZh": "compressed with bzip2",
    b"\xd0\xcf\x11\xe0": "an Office file",
}


def checked(raw: bytes, kind: str) -> tuple[bytes, str]:
    """The bytes of an image and the suffix under which they can be written, after all checks of its header.

    Parameters
    ----------
    raw : content of a file; its name plays no part
    kind : volume or image

    Raises
    ------
    UnreadableError
        Empty, too large, of an unknown format, damaged, or one that leads to another file.
    DimensionError
        Too many voxels, or several volumes.
    """
    if not raw:
        raise UnreadableError("the file is empty")
    if len(raw) > MAX_BYTES:
        raise UnreadableError(f"the file has {len(raw) / 2**20:.0f} MB; at most {MAX_BYTES // 2**20} MB are read")
    if kind == "image":
        for start, suffix in ((b"\x89PNG", ".png"), (b"\xff\xd8\xff", ".jpg"), (b"II*\0", ".tif"), (b"MM\0*", ".tif")):
            if raw.startswith(start):
                return raw, suffix  # pixels are counted by the reader before it decodes them
        if raw[128:132] == b"DICM":
            return raw, ".dcm"
        raise UnreadableError(_unknown(raw, "PNG, JPEG, TIFF or DICOM"))
    if raw[:2] == b"\x1f\x8b":
        head = _begin(raw, 544)
        _within(raw, _nifti(head) if _is_nifti(head) else None)
        return raw, ".nii.gz"
    if _is_nifti(raw):
        _complete(raw, _nifti(raw))
        return raw, ".nii"
    if raw.startswith(b"NRRD"):
        _nrrd(raw)
        return raw, ".nrrd"
    if re.match(rb"(ObjectType|NDims|Comment|ObjectSubType)\s*=", raw):
        _meta_image(raw)
        return raw, ".mha"
    raise UnreadableError(_unknown(raw, "NIfTI (.nii, .nii.gz), NRRD (.nrrd) or MetaImage (.mha)"))


def _unknown(raw: bytes, wanted: str) -> str:
    known = next((words for start, words in _KNOWN.items() if raw.startswith(start)), "")
    if raw[128:132] == b"DICM":
        known = "a DICOM file"
    return f"the file is {known}" if known else f"the file is not {wanted}"


def _is_nifti(head: bytes) -> bool:
    return head[344:348] in (b"n+1\0", b"ni1\0") or head[4:8] in (b"n+2\0", b"ni2\0")


def _nifti(head: bytes) -> int:
    """Bytes that the header declares for the whole file."""
    second = head[4:8] in (b"n+2\0", b"ni2\0")
    if head[344:348] == b"ni1\0" or head[4:8] == b"ni2\0":
        raise UnreadableError(
            "the NIfTI header names a second file with the values", do="Save it as a single .nii or .nii.gz."
        )
    if len(head) < (540 if second else 348):
        raise UnreadableError("the NIfTI header is cut off")
    order = "<" if struct.unpack("<i", head[:4])[0] == (540 if second else 348) else ">"
    dims = struct.unpack(f"{order}8q", head[16:80]) if second else struct.unpack(f"{order}8h", head[40:56])
    bits = struct.unpack(f"{order}h", head[14:16] if second else head[72:74])[0]
    offset = struct.unpack(f"{order}q", head[168:176])[0] if second else struct.unpack(f"{order}f", head[108:112])[0]
    if not 1 <= dims[0] <= 7 or not 1 <= bits <= 256 or not 0 <= offset <= _SLACK:
        raise UnreadableError("the NIfTI header is damaged")
    return int(offset) + _voxels(dims[1 : dims[0] + 1]) * bits // 8


def _nrrd(raw: bytes) -> None:
    end = re.search(rb"\r?\n\r?\n", raw[:_HEADER])
    if end is None:
        raise UnreadableError("the NRRD header does not end")
    fields: dict[str, str] = {}
    for line in raw[: end.start()].decode("utf-8", errors="replace").splitlines()[1:]:
        if line.startswith("#") or ":=" in line:
            continue
        name, colon, value = line.partition(":")
        if not colon:
            raise UnreadableError(f"the NRRD header is damaged: {line[:60]!r}")
        fields[" ".join(name.lower().split())] = value.strip().lower()
    if any(name.replace(" ", "") == "datafile" for name in fields):
        raise UnreadableError("the NRRD header names another file with the values", do="Save it as a single .nrrd.")
    encoding, kind = fields.get("encoding", ""), fields.get("type", "")
    if encoding not in ("raw", "gzip", "gz") or kind not in _NRRD_BYTES:
        raise UnreadableError(f"NRRD of type {kind!r} with encoding {encoding!r} is not read", do="Use raw or gzip.")
    if {"line skip", "byte skip", "lineskip", "byteskip"} & set(fields):
        raise UnreadableError("NRRD files that skip lines or bytes are not read")
    expected = _voxels(_whole(fields.get("sizes", ""))) * _NRRD_BYTES[kind]
    (_complete if encoding == "raw" else _within)(raw[end.end() :], expected)


def _meta_image(raw: bytes) -> None:
    head = raw[:_HEADER]
    places = [found.start() for found in re.finditer(rb"elementdatafile", head, flags=re.IGNORECASE)]
    end = re.search(rb"(?:^|\n)ElementDataFile *= *LOCAL *\r?\n", head)
    if end is None or not places or places[0] < end.start() or len([p for p in places if p < end.end()]) != 1:
        raise UnreadableError("the MetaImage header names another file with the values", do="Save it as a single .mha.")
    fields: dict[str, str] = {}
    for line in head[: end.start()].decode("utf-8", errors="replace").splitlines():
        name, _, value = line.partition("=")
        if name.strip() in fields:
            raise UnreadableError(f"the MetaImage header has {name.strip()!r} twice")
        fields[name.strip()] = value.strip()
    kind = fields.get("ElementType", "")
    plain = fields.get("ElementNumberOfChannels", "1") == "1" and fields.get("BinaryData", "True").lower() == "true"
    if kind not in _META_BYTES or not plain:
        raise UnreadableError(f"MetaImage of type {kind!r} is not read; one channel of binary numbers is")
    expected = _voxels(_whole(fields.get("DimSize", ""))) * _META_BYTES[kind]
    packed = fields.get("CompressedData", "False").lower() == "true"
    (_within if packed else _complete)(raw[end.end() :], expected)


def _whole(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split()]
    except ValueError:
        raise UnreadableError(f"the header is damaged: sizes {text[:60]!r}") from None


def _voxels(sizes: Sequence[int]) -> int:
    """Voxels of one 3D volume; refuses more of them, or more of those."""
    if not sizes or min(sizes) < 1:
        raise UnreadableError(f"the header is damaged: sizes {'×'.join(map(str, sizes)) or 'none'}")
    if len(sizes) < 3:
        raise DimensionError(f"the file holds {len(sizes)}D values of {'×'.join(map(str, sizes))}; a volume is 3D")
    if prod(sizes[3:]) != 1:
        raise DimensionError(f"the file holds {prod(sizes[3:])} volumes; one is expected")
    voxels = prod(sizes)
    if voxels > MAX_VOXELS:
        raise DimensionError(f"{'×'.join(map(str, sizes))} voxels are declared; at most {MAX_VOXELS:,} are read")
    return voxels


def _begin(raw: bytes, wanted: int) -> bytes:
    """The first bytes of a compressed file."""
    found = b""
    try:
        for piece in _unpacked(raw[:_HEADER]):
            found += piece
            if len(found) >= wanted:
                break
    except zlib.error:
        raise UnreadableError("the compressed file is damaged") from None
    return found[:wanted]


def _complete(raw: bytes, expected: int) -> None:
    if len(raw) < expected:
        raise UnreadableError(f"the file is cut off: {len(raw):,} bytes of {expected:,} that its header declares")


def _within(raw: bytes, expected: int | None) -> None:
    """Refuse a stream that unpacks to other than its header declares; it is unpacked in small pieces and not kept."""
    if expected is None:
        raise UnreadableError("the compressed file is not NIfTI (.nii.gz)")
    total = 0
    try:
        for piece in _unpacked(raw):
            total += len(piece)
            if total > expected + _SLACK:
                raise UnreadableError(f"the file unpacks to more than the {expected:,} bytes that its header declares")
    except zlib.error:
        raise UnreadableError("the compressed file is damaged") from None
    if total < expected:
        raise UnreadableError(f"the file unpacks to {total:,} bytes; its header declares {expected:,}")


def _unpacked(raw: bytes) -> Iterator[bytes]:
    """The pieces that a stream unpacks to, 1 MB each at most; some programs write several gzip members in a row."""
    unpacker = zlib.decompressobj(47)
    for start in range(0, len(raw), _HEADER):
        rest = raw[start : start + _HEADER]
        while rest:
            yield unpacker.decompress(rest, _SLACK)
            rest = unpacker.unconsumed_tail
            if unpacker.eof:
                rest, unpacker = unpacker.unused_data, zlib.decompressobj(47)
                if rest[:2] != b"\x1f\x8b":
                    return
