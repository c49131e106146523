"""How two grids differ, in words."""

from __future__ import annotations

import numpy as np
import pytest

from osml.errors import InvalidInputError
from osml.imaging.errors import GeometryError
from osml.imaging.grids import difference
from osml.imaging.masks import align
from osml.imaging.volume import Volume

IMAGE = Volume(np.zeros((24, 20, 10)), (0.7, 0.8, 5.0), (3.0, -4.0, 31.5), name="t1.nii.gz")
X, Y, Z = np.eye(3)


def mask(
    size: tuple[int, int, int] = (10, 20, 24),
    spacing: tuple[float, float, float] = (0.7, 0.8, 5.0),
    origin: tuple[float, float, float] = (3.0, -4.0, 31.5),
    columns: tuple[np.ndarray, np.ndarray, np.ndarray] = (X, Y, Z),
) -> Volume:
    return Volume(np.zeros(size[::-1]), spacing, origin, tuple(np.column_stack(columns).ravel()), name="tumor.nii.gz")


@pytest.mark.parametrize(
    "other, words",
    [
        (mask(origin=(3, -4, 146.5), columns=(X, Y, -Z)),
         "Same extent (23 × 5 = 115 mm): slices are stored in reverse order."),
        (mask(origin=(9.3, 11.2, 31.5), columns=(-X, -Y, Z)),
         "Same extent (9 × 0.7 = 6.3 mm, 19 × 0.8 = 15.2 mm): columns and rows are stored in reverse order."),
        (mask(origin=(3, -4, 156.5), columns=(X, Y, -Z)),
         "slices are stored in reverse order. The mask is shifted by 2 voxels along z (10 mm)."),
        (mask(origin=(3, -4, 26.5)), "The mask is shifted by -1 voxels along z (-5 mm)."),
        (mask(origin=(3.35, -2.4, 31.5)),
         "The mask is shifted by 0.5 voxels along x (0.35 mm), 2 voxels along y (1.6 mm)."),
        (mask((20, 24, 10), (0.8, 5, 0.7), columns=(Y, Z, X)), "axes are permuted: 20×24×10 of the mask is 10×20×24"),
        (mask((24, 20, 10)), "The axes are permuted: 24×20×10"),
        (mask((10, 20, 47), (0.7, 0.8, 2.5)),
         "Same extent, another resolution: one voxel of the mask is z 0.5 voxels of the image."),
        (mask((5, 10, 24), (1.4, 1.6, 5), (3.35, -3.6, 31.5)), "is x 2, y 2 voxels of the image."),
        (mask((4, 20, 12), spacing=(0.7, 0.8, 1.0)), "Another resolution"),
        (mask((4, 20, 12), origin=(4.4, -4, 41.5)), "The mask covers a part of the image, from voxel 2 0 2 (x y z)."),
        (mask((10, 20, 30)), "Another number of voxels: the mask begins at voxel 0 0 0 (x y z) of the image"),
        (mask(spacing=(1, 1, 1), origin=(0, 0, 0)), "it was saved without its place in space"),
        (mask(columns=(X, (Y + Z) / 2**0.5, (Z - Y) / 2**0.5)), "The axes are turned by an angle."),
        (Volume(np.zeros((20, 10))), "The mask is a picture, the image a volume."),
    ],
)  # fmt: skip
def test_what_differs(other: Volume, words: str) -> None:
    with pytest.raises(GeometryError) as caught:
        align(IMAGE, other)
    assert words in str(caught.value)
    assert IMAGE.grid() in str(caught.value)


def test_permuted_axes_of_equal_length() -> None:
    cube = Volume(np.zeros((4, 4, 4)), (1, 2, 3), (1, 1, 1))
    turned = Volume(cube.array, (2, 1, 3), (1, 1, 1), (0, 1, 0, 1, 0, 0, 0, 0, 1))
    assert difference(cube, turned) == "The axes are permuted: x y z of the mask are y x z of the image."


@pytest.mark.parametrize(
    "slices, words", [(1, "save both in 2D, or both in 3D"), (24, "name the folder of the series")]
)
def test_a_slice_with_a_volume_of_masks(slices: int, words: str) -> None:
    assert words in difference(Volume(np.zeros((20, 10))), mask((10, 20, slices)))


def test_pictures_of_another_size() -> None:
    words = difference(Volume(np.zeros((20, 10))), Volume(np.zeros((18, 10))))
    assert words == "The mask covers a part of the image, from voxel 0 0 (x y)."


def test_an_error_of_geometry_is_an_input_error() -> None:
    with pytest.raises(InvalidInputError, match="Nothing was changed"):
        align(IMAGE, mask((10, 20, 30)))
