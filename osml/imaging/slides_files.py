"""Writing large files whole or not at all, also where the disk is full."""

from __future__ import annotations

import errno
import io
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from osml.errors import OsmlError
from osml.files import atomic_write


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` to write to; it takes the name `path` at the end, or is gone after an error.

    Raises
    ------
    OsmlError
        The disk is full, or the place cannot be written.
    """
    with disk_full(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=f".part{path.suffix}", dir=path.parent)
        os.close(handle)
        try:
            yield Path(name)
            with open(name, "rb") as stream:
                os.fsync(stream.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """The same of a folder; an older one of that name is replaced."""
    with disk_full(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
        try:
            yield made
            os.chmod(made, 0o755)
            if path.exists():
                old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
                os.replace(path, old / path.name)
                os.replace(made, path)
                shutil.rmtree(old)
            else:
                os.replace(made, path)
        finally:
            shutil.rmtree(made, ignore_errors=True)


def write_whole(path: Path, data: bytes | str) -> None:
    """`atomic_write`, with the same words where the disk is full."""
    with disk_full(path):
        atomic_write(path, data)


def write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """A picture as PNG; equal pixels give equal bytes."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    write_whole(path, stream.getvalue())


@contextmanager
def disk_full(path: Path) -> Iterator[None]:
    """An `OSError` within becomes an `OsmlError` that names `path` and says what to do."""
    try:
        yield
    except OSError as error:
        raise OsmlError(
            f"{path}: cannot be written ({error.strerror or error}); nothing was left half-written",
            do="Make room, or choose another place, and run the same command again: finished work is kept.",
        ) from error


def array_on_disk(path: Path, shape: Sequence[int]) -> NDArray[np.uint8]:
    """An array of bytes in a new file, zeros, whose room on the disk is taken at once.

    Raises
    ------
    OSError
        The disk is full. Without the room a later write into the mapped file would end the process.
    """
    size = int(np.prod([int(n) for n in shape], dtype=object))
    with path.open("wb") as stream:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(stream.fileno(), 0, max(size, 1))
        elif shutil.disk_usage(path.parent).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        else:
            stream.truncate(max(size, 1))
    return np.memmap(path, dtype=np.uint8, mode="r+", shape=tuple(shape))
