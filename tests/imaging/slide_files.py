"""Small slides for tests: pyramids with a known picture, large sparse ones, broken ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
GLASS, PINK, PURPLE = (242, 240, 243), (222, 140, 185), (95, 60, 145)


def picture(height: int, width: int, seed: int = 1) -> Pixels:
    """Glass with an ellipse of pink tissue and purple dots, and noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    tissue = ((y / height - 0.5) / 0.36) ** 2 + ((x / width - 0.5) / 0.38) ** 2 < 1
    nuclei = tissue & ((y % 37 - 18) ** 2 + (x % 41 - 20) ** 2 < 40)
    rgb = np.where(nuclei[..., None], PURPLE, np.where(tissue[..., None], PINK, GLASS))
    return np.clip(rgb + rng.normal(0, 5, rgb.shape), 0, 255).astype(np.uint8)


def write_tiff(
    path: Path, pixels: Pixels, *, mpp: float | None = 0.5, tile: int = 256, levels: int = 3,
    compression: str = "jpeg", ycbcr: bool = True, description: str | None = None,
) -> Path:  # fmt: skip
    """A tiled pyramid; levels are every second pixel. Without `mpp`, no resolution tag says a length."""
    import tifffile

    extra: dict[str, object] = {}
    if compression == "jpeg":
        extra["compressionargs"] = {"level": 85, "outcolorspace": "ycbcr" if ycbcr else "rgb"}
        if ycbcr:
            extra["subsampling"] = (2, 2)
    if mpp is None:
        extra |= {"resolution": (1.0, 1.0), "resolutionunit": "NONE"}
    with tifffile.TiffWriter(path) as writer:
        for number in range(levels):
            if mpp is not None:
                extra |= {"resolution": (1e4 / mpp / 2**number,) * 2, "resolutionunit": "CENTIMETER"}
            writer.write(
                np.ascontiguousarray(pixels[:: 2**number, :: 2**number]), tile=(tile, tile), photometric="rgb",
                compression=compression, subfiletype=int(number > 0), metadata=None,
                description=description if number == 0 else None, **extra,
            )  # fmt: skip
    return path


def write_sparse(path: Path, side: int, *, tile: int = 512, tissue: float = 0.02, mpp: float = 0.5) -> Path:
    """A pyramid of side × side pixels: glass, and a square of tissue in its middle that covers the share `tissue`."""
    import imagecodecs
    import tifffile

    here = np.tile(picture(256, 256)[96:160, 96:160], (tile // 64, tile // 64, 1))
    blank = np.full((tile, tile, 3), GLASS, dtype=np.uint8)

    def encoded(pixels: Pixels) -> bytes:
        return imagecodecs.jpeg8_encode(
            pixels, level=85, colorspace="RGB", outcolorspace="YCBCR", subsampling="420"
        )  # fmt: skip

    full, empty = encoded(here), encoded(blank)
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        number = 0
        while (n := side // 4**number) >= tile or number == 0:
            low, high = (round(n * (0.5 + side * tissue**0.5 / 2)) for side in (-1, 1))

            def tiles(n: int = n, low: int = low, high: int = high) -> Iterator[bytes]:
                for top in range(0, n, tile):
                    for left in range(0, n, tile):
                        ends = [(np.clip(low - at, 0, tile), np.clip(high - at, 0, tile)) for at in (top, left)]
                        if all(end == (0, tile) for end in ends):
                            yield full
                        elif any(first == last for first, last in ends):
                            yield empty
                        else:
                            cut = tuple(slice(*end) for end in ends)
                            pixels = blank.copy()
                            pixels[cut] = here[cut]
                            yield encoded(pixels)

            writer.write(
                tiles(), shape=(n, n, 3), dtype=np.uint8, tile=(tile, tile), photometric="rgb", compression="jpeg",
                subsampling=(2, 2), subfiletype=int(number > 0), metadata=None,
                resolution=(1e4 / mpp / 4**number,) * 2, resolutionunit="CENTIMETER",
            )  # fmt: skip
            number += 1
    return path
