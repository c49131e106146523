"""Triangles of marching cubes with vertices at the middle of the edges, for binary masks.

Lorensen and Cline 1987. A cube's corner k lies at (k >> 2 & 1, k >> 1 & 1, k & 1) in (z, y, x); a cube's number has
bit k set where corner k belongs to the mask. Loops of edge midpoints follow from the number alone, except on faces
with two opposite corners set and for the diagonals inside a loop; those free choices were found by a search over all
triangulations for the one whose area and volume PyRadiomics reports for each single cube.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

# Per cube number 0..127 the triangles as edge numbers, one hexadecimal digit each; a cube with corner 7 set is its
# complement turned inside out.
_TRIANGLES = """
- 210 034 132342 651 250265 034651 642634653 357 210357 054574 152572742 631673 230273267 014164674 642674 289
810891 034289 139349489 651289 850865896 034651289 453465496489 289357 810891357 054574289 159574549489
631673289 830673863896 014164674289 486896467 a84 210a84 0383a8 13a1a2a82 651a84 250265a84 0383a8651
6823a8638653 357a84 210357a84 0585787a8 1525727a2a82 631673a84 230273267a84 0181671787a8 7827a8672 2494a9
410a914a1 0323a9392 1393a9 6512494a9 4504654964a9 0323a9392651 953965a93 2494a9357 410a914a1357 0525727a2a92
15a57a1a9 6316732494a9 730670960a904a0 01606707a0a9092 6797a9 9b6 b10b612b029b 0349b6 13b34b42b29b1b6 9519b5
b502b029b 0141949b4b54534 9429349539b5 3595693979b7 2302732b729b156 0595690949b7974 1567429729b7 9319739b7
2302732b729b 01419b1b4b74 7429729b7 2868b6 b10b618b0 03234838b3b6362 1363464868b6 2518b5285 8508b5
0124538b5485 4538b5485 2838b3b73236356 b30b738b0156 4504756826b8 1564878b7 2312732b728b b30b738b0 0124878b7
4878b7 684698a64ab6 4104614b64ab982 0363a6ab6068698 13a1a6ab6982 4514b54ab941984 b504b04ab982 8308a31595b9
982a53ab5 354564694984ab7 01275348a6b9 058568698ab7 156982ab7 931943984ab7 430982ab7 018198ab7 982ab7
2464a6ab6 4104614b64ab 0323ab3b2b62 13a1a6ab6 251ab52a524a b504b04ab 012a53ab5 a53ab5 246436356ab7 430156ab7
052562ab7 156ab7 231243ab7 430ab7 012ab7 ab7
"""

_EDGES = [(a, b) for a in range(8) for b in range(a + 1, 8) if (a ^ b).bit_count() == 1]


@cache
def cube_triangles() -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """All triangles of the 256 cubes.

    Returns
    -------
    triangles : (t, 3 corners, zyx) in voxel units from the cube's corner 0, turned outwards
    cube : (t,) the cube to which each belongs

    >>> np.bincount(cube_triangles()[1])[:4].tolist()
    [0, 1, 1, 2]
    """
    corner = np.array([(k >> 2 & 1, k >> 1 & 1, k & 1) for k in range(8)], dtype=np.float64)
    middle = np.array([(corner[a] + corner[b]) / 2 for a, b in _EDGES])
    half = [
        middle[[int(digit, 16) for digit in word]].reshape(-1, 3, 3) if word != "-" else np.empty((0, 3, 3))
        for word in _TRIANGLES.split()
    ]
    cubes = half + [triangles[:, ::-1] for triangles in half[::-1]]
    return np.concatenate(cubes), np.repeat(np.arange(256), [len(triangles) for triangles in cubes])


@dataclass(frozen=True)
class Faces:
    """What area and volume need of the triangles, in voxel units.

    Attributes
    ----------
    cube, normal : (t,), (t, zyx) of each triangle: its cube, and its normal of twice its area
    volume : (256,) six times the volume under a cube's triangles, seen from its corner 0
    share : (256, zyx) sum of a cube's normals: times the cube's position, what is added elsewhere
    """

    cube: NDArray[np.intp]
    normal: NDArray[np.float64]
    volume: NDArray[np.float64]
    share: NDArray[np.float64]


@cache
def cube_faces() -> Faces:
    """The triangles of `cube_triangles`, summed by cube."""
    triangles, cube = cube_triangles()
    a, b, c = np.moveaxis(triangles, 1, 0)
    ab = np.cross(a, b)
    normal = ab + np.cross(b, c) + np.cross(c, a)
    volume = np.bincount(cube, weights=(ab * c).sum(axis=1), minlength=256)
    share = np.stack([np.bincount(cube, weights=normal[:, k], minlength=256) for k in range(3)], axis=1)
    return Faces(cube, np.cross(a - c, b - c), volume.astype(np.float64), share.astype(np.float64))
