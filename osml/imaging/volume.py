"""A picture or volume with its place in space."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.errors import missing_extra
from osml.imaging.errors import DimensionError, DirectionError


@dataclass(frozen=True)
class Volume:
    """Values on a regular grid, 2D or 3D.

    Attributes
    ----------
    array : (y, x) or (z, y, x)
    spacing_mm : along x, y(, z); 1 where a picture has no known size
    origin_mm : centre of the first voxel, x, y(, z)
    direction : row-major direction cosines; the identity by default
    name : file or other words for messages
    notes : what a reader should know (text burned into the pixels, lossy compression)

    Raises
    ------
    DimensionError, DirectionError
    """

    array: NDArray[Any]
    spacing_mm: tuple[float, ...] = ()
    origin_mm: tuple[float, ...] = ()
    direction: tuple[float, ...] = ()
    name: str = "image"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n = self.array.ndim
        if n not in (2, 3):
            raise DimensionError(f"{self.name}: {n} dimensions, shape {self.array.shape}; 2 or 3 are expected")
        object.__setattr__(self, "spacing_mm", tuple(map(float, self.spacing_mm)) or (1.0,) * n)
        object.__setattr__(self, "origin_mm", tuple(map(float, self.origin_mm)) or (0.0,) * n)
        object.__setattr__(self, "direction", tuple(map(float, self.direction)) or tuple(np.eye(n).ravel()))
        matrix = np.array(self.direction)
        if len(self.spacing_mm) != n or len(self.origin_mm) != n or matrix.size != n * n:
            raise DimensionError(f"{self.name}: spacing, origin and direction must have {n} dimensions")
        if not np.all(np.isfinite(self.spacing_mm)) or min(self.spacing_mm) <= 0:
            raise DimensionError(f"{self.name}: spacing {self.spacing_mm} mm must be positive")
        matrix = matrix.reshape(n, n)
        if not np.allclose(matrix @ matrix.T, np.eye(n), atol=1e-4):
            raise DirectionError(
                f"{self.name}: the direction matrix {np.round(matrix, 4).tolist()} is not orthonormal",
                do="Re-export the image; a sheared grid is not resampled silently.",
            )

    @property
    def size(self) -> tuple[int, ...]:
        """Voxels along x, y(, z)."""
        return self.array.shape[::-1]

    def like(self, array: NDArray[Any]) -> Volume:
        """The same grid with other values."""
        return replace(self, array=array)

    def window(self, low: NDArray[np.intp], high: NDArray[np.intp]) -> Volume:
        """Part of the grid: voxel indices (array order) from `low` up to, not including, `high`."""
        cut = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        matrix = np.reshape(self.direction, (self.array.ndim,) * 2)
        shift = matrix @ (np.asarray(low)[::-1] * np.array(self.spacing_mm))
        origin = tuple(np.array(self.origin_mm) + shift)
        return replace(self, array=np.ascontiguousarray(self.array[cut]), origin_mm=origin)

    def grid(self) -> str:
        """The grid in one line, for messages."""
        n = self.array.ndim
        numbers = [
            "×".join(map(str, self.size)),
            "×".join(f"{s:.4g}" for s in self.spacing_mm) + " mm",
            "origin " + " ".join(f"{o:.4g}" for o in self.origin_mm),
            "direction " + " ".join(f"{d:.3g}" for d in self.direction[: n * n]),
        ]
        return "  ".join(numbers)


def to_sitk(volume: Volume) -> Any:
    """The volume as a SimpleITK image (deferred import)."""
    sitk = simple_itk()
    array = volume.array.astype(np.uint8) if volume.array.dtype == bool else volume.array
    out = sitk.GetImageFromArray(array)
    out.SetSpacing(volume.spacing_mm)
    out.SetOrigin(volume.origin_mm)
    out.SetDirection(volume.direction)
    return out


def from_sitk(image: Any, name: str = "image") -> Volume:
    """A SimpleITK image of one channel as a volume."""
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise DimensionError(f"{name}: {image.GetNumberOfComponentsPerPixel()} channels; one is expected")
    return Volume(
        simple_itk().GetArrayFromImage(image), image.GetSpacing(), image.GetOrigin(), image.GetDirection(), name
    )


def simple_itk() -> Any:
    """The SimpleITK module, or an error with the install line."""
    try:
        import SimpleITK
    except ImportError as error:
        raise missing_extra("SimpleITK", "radiomics", "reading and filtering volumes") from error
    return SimpleITK
