"""What the volume reader loses of a NIfTI file: it turns NaN and infinity of floating-point voxels into zeros."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

from osml.imaging.errors import NonFiniteError

HEADER = 348
LONGEST_EXTENSION = 1 << 24
# NIfTI-1 datatype codes of real floating-point voxels.
FLOATS = {16: "f4", 64: "f8"}


def require_finite(path: Path, voxels: int) -> None:
    """Raise NonFiniteError where a NIfTI-1 file (.nii, .nii.gz) holds NaN or infinity.

    voxels : how many the reader found; no more is unpacked. What this cannot parse is left to the reader's own errors.
    """
    unpack = gzip.open if path.name.lower().endswith(".gz") else open
    try:
        with unpack(path, "rb") as stream:
            header = stream.read(HEADER)
            if len(header) < HEADER:
                return
            order = "<" if struct.unpack("<i", header[:4])[0] == HEADER else ">"
            kind = FLOATS.get(struct.unpack(f"{order}h", header[70:72])[0])
            if kind is None or header[344:347] != b"n+1":
                return
            offset = int(struct.unpack(f"{order}f", header[108:112])[0])
            size = np.dtype(kind).itemsize
            stream.read(min(max(0, offset - HEADER), LONGEST_EXTENSION))
            body = stream.read(voxels * size)
    except (OSError, EOFError, zlib.error, struct.error, ValueError, OverflowError):
        return
    values = np.frombuffer(body[: len(body) // size * size], dtype=order + kind)
    bad = int(values.size - np.isfinite(values).sum())
    if bad:
        raise NonFiniteError(
            f"{path}: {bad} of {values.size} voxels are NaN or infinite",
            do="Fill them on purpose before extraction; a filter would spread them over the image.",
        )
