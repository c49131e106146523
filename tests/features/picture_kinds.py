"""Picture files of every kind that a folder of a hospital holds, good and bad."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 200


def blocks(seed: int = 0, side: int = SIDE) -> np.ndarray:
    """A picture of coloured blocks (side, side, 3), grey levels 0 to 255, no two seeds alike."""
    coarse = np.random.default_rng(seed).integers(0, 256, (side // 10, side // 10, 3), dtype=np.uint8)
    return np.kron(coarse, np.ones((10, 10, 1), dtype=np.uint8))


def plain(path: Path, seed: int = 0) -> Path:
    """A PNG in colour."""
    Image.fromarray(blocks(seed)).save(path)
    return path


def _truncated(path: Path) -> None:
    whole = plain(path.with_name("whole.png"), 8).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def _turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(blocks())).save(path, exif=exif)


def _two_pages(path: Path) -> None:
    Image.fromarray(blocks()).save(path, save_all=True, append_images=[Image.fromarray(blocks(1))])


def _huge(path: Path) -> None:
    Image.new("1", (10_000, 8_001)).save(path)


def _clear(path: Path) -> None:
    Image.fromarray(np.dstack([blocks(), np.full((SIDE, SIDE, 1), 128, np.uint8)])).save(path)


def _opaque(path: Path) -> None:
    Image.fromarray(np.dstack([blocks(), np.full((SIDE, SIDE, 1), 255, np.uint8)])).save(path)


def _ink(path: Path) -> None:
    inks = np.dstack([255 - blocks(), np.zeros((SIDE, SIDE, 1), np.uint8)])
    Image.fromarray(inks, mode="CMYK").save(path)


def _wide_grey(path: Path) -> None:
    Image.fromarray(blocks()[..., 0].astype(np.uint16) * 257).save(path)


# name of the file → (how it is written, reason, words of the message)
BAD: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "missing.png": (lambda path: None, "unreadable", "no such file"),
    "folder.png": (lambda path: path.mkdir(), "unreadable", "no such file"),
    "empty.png": (lambda path: path.write_bytes(b""), "unreadable", "cannot be read as a picture"),
    "truncated.png": (_truncated, "unreadable", "cannot be read as a picture"),
    "text.png": (lambda path: path.write_text("see PACS"), "unreadable", "cannot be read as a picture"),
    "scan.pdf": (lambda path: path.write_bytes(b"%PDF-1.7"), "unreadable", "cannot be read as a picture"),
    "named.dcm": (lambda path: path.write_bytes(b"no DICOM"), "unreadable", "named.dcm"),
    "pages.tif": (_two_pages, "dimension", "2 pages; a picture of one page is expected"),
    "huge.png": (_huge, "dimension", "80 megapixels; at most 80"),
    "clear.png": (_clear, "dimension", "40000 of 40000 pixels are transparent"),
}
# Files that show the picture of `blocks(0)`, or its red plane in grey.
SAME: dict[str, Callable[[Path], object]] = {
    "opaque.png": _opaque,
    "turned.png": _turned,
    "ink.tif": _ink,
}
GREY: dict[str, Callable[[Path], object]] = {
    "grey.png": lambda path: Image.fromarray(blocks()[..., 0]).save(path),
    "wide.png": _wide_grey,
}
