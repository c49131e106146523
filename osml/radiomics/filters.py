"""Filtered images, named and computed as in PyRadiomics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.errors import missing_extra
from osml.imaging.errors import DimensionError
from osml.imaging.volume import Volume, simple_itk, to_sitk
from osml.radiomics.regions import box_of

# The coif1 filters reach 5 voxels.
WAVELET_MARGIN = 8
FILTERS = ("original", "wavelet", "log", "square", "squareroot", "logarithm", "exponential", "gradient")


def filtered(
    image: Volume,
    filters: Sequence[str],
    *,
    log_sigma_mm: Sequence[float] = (),
    in_plane: bool = False,
    focus: NDArray[np.bool_] | None = None,
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Name and values of each filtered image, in the order of `filters`.

    Parameters
    ----------
    image : Volume, float64
    filters : of `FILTERS`. `wavelet` gives the 8 (4 in 2D) sub-bands of one undecimated coif1 step, with periodic
        borders; `log` the scale-normalised Laplacian of Gaussian; `square` … `exponential` are scaled by the image's
        largest absolute value, so they depend on the crop; `gradient` is the magnitude per mm.
    log_sigma_mm : widths for `log`
    in_plane : wavelet within the slices only
    focus : bool, shape of the image; `log` and `wavelet` are computed around it, with a margin of 8 sigma or 8
        voxels, and are NaN outside its box; none: everywhere

    Yields
    ------
    (name, array) : `log` and `gradient` in float32 (SimpleITK), the others in float64
    """
    for name in filters:
        if name == "original":
            yield name, image.array
        elif name == "wavelet":
            yield from _wavelet(image.array, in_plane, focus)
        elif name == "log":
            for sigma in log_sigma_mm:
                yield f"log-sigma-{str(float(sigma)).replace('.', '-')}-mm-3D", _log(image, sigma, focus)
        elif name == "gradient":
            sitk = simple_itk()
            yield name, sitk.GetArrayFromImage(sitk.GradientMagnitude(to_sitk(image)))
        else:
            yield name, _point(name, image.array)


def _point(name: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
    top = float(np.abs(x).max())
    if top == 0:
        return np.ones_like(x) if name == "exponential" else np.zeros_like(x)
    if name == "square":
        return (1 / np.sqrt(top) * x) ** 2
    if name == "squareroot":
        return np.sign(x) * np.sqrt(np.abs(x) * top)
    if name == "logarithm":
        y = np.sign(x) * np.log(np.abs(x) + 1)
        return y * (top / np.abs(y).max())
    return np.exp(np.log(top) / top * x)


def _log(image: Volume, sigma_mm: float, focus: NDArray[np.bool_] | None) -> NDArray[np.float32]:
    from osml.radiomics.laplacian import laplacian

    spacing = image.spacing_mm[::-1]
    whole = (0,) * image.array.ndim, image.array.shape
    low, high = whole if focus is None else box_of(focus)
    margin = np.ceil(8 * sigma_mm / np.array(spacing)).astype(int)
    start = np.maximum(np.array(low) - margin, 0)
    part = image.array[tuple(map(slice, start, np.minimum(np.array(high) + margin, image.array.shape)))]
    need = np.maximum(np.ceil(sigma_mm / np.array(spacing)) + 1, 4)
    if np.any(np.array(part.shape) < need):
        raise DimensionError(
            f"{image.name}: {part.shape[::-1]} voxels are too few for a Laplacian of Gaussian of {sigma_mm:g} mm",
            do="Leave out `log`, or use a smaller sigma.",
        )
    wanted = [(int(a - s), int(b - s)) for a, b, s in zip(low, high, start, strict=True)]
    return _placed(laplacian(part, sigma_mm, spacing, wanted), low, image.array.shape)


def _placed(part: NDArray[Any], low: Sequence[int] | NDArray[np.intp], shape: tuple[int, ...]) -> NDArray[Any]:
    """`part` in an array of `shape` that is NaN elsewhere."""
    if part.shape == shape:
        return part
    out = np.full(shape, np.nan, dtype=part.dtype)
    out[tuple(slice(int(a), int(a) + size) for a, size in zip(low, part.shape, strict=True))] = part
    return out


def _wavelet(
    x: NDArray[np.float64], in_plane: bool, focus: NDArray[np.bool_] | None
) -> Iterator[tuple[str, NDArray[np.float64]]]:
    try:
        import pywt
    except ImportError as error:
        raise missing_extra("PyWavelets", "radiomics", "wavelet filters") from error
    shape = x.shape
    low, high = ((0,) * x.ndim, shape) if focus is None else box_of(focus)
    start = np.maximum(np.array(low) - WAVELET_MARGIN, 0)
    x = x[tuple(map(slice, start, np.minimum(np.array(high) + WAVELET_MARGIN, shape)))]
    axes = tuple(range(x.ndim - 1, -1, -1))[: 2 if in_plane else None]
    even = np.pad(x, [(0, size % 2) for size in x.shape], "wrap")
    bands = pywt.swtn(even, "coif1", level=1, start_level=0, axes=axes)[0]
    keep = tuple(slice(int(a - s), int(b - s)) for a, b, s in zip(low, high, start, strict=True))
    # The approximation comes last, as in PyRadiomics.
    names = ["".join(letters) for letters in product("ad", repeat=len(axes))]
    for band in [*names[1:], names[0]]:
        values = np.ascontiguousarray(bands.pop(band)[keep])
        yield "wavelet-" + band.replace("a", "L").replace("d", "H"), _placed(values, low, shape)
