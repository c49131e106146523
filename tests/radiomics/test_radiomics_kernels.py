"""Counting kernels beside plain loops over random regions."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from osml.radiomics.classes import TEXTURE, directions_of, feature_names, intensity_features
from osml.radiomics.kernels import padded_levels, run_counts, shares_a_line, zone_matrix, zones


@st.composite
def regions(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Levels 1..4 and a mask with at least one voxel, of any thin or cubic shape."""
    shape = draw(st.sampled_from([(1, 6, 7), (1, 1, 9), (4, 5, 6), (5, 1, 4), (3, 4, 1), (1, 1, 1)]))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    inside = rng.random(shape) < draw(st.sampled_from([0.3, 0.8, 1.0]))
    inside.flat[0] = True
    return rng.integers(1, draw(st.sampled_from([2, 3, 5])), shape), inside


def prepared(level: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, list]:
    flat, voxels = padded_levels(inside, level[inside].astype(np.int64), np.arange(6, dtype=np.int32))
    directions = directions_of(inside.shape, False)
    _, height, width = (n + 2 for n in inside.shape)
    steps = np.array([(z * height + y) * width + x for z, y, x in directions], dtype=np.int64)
    return flat, voxels, steps, directions


def level_at(level: np.ndarray, inside: np.ndarray, at: tuple[int, ...]) -> int:
    within = all(0 <= a < n for a, n in zip(at, level.shape, strict=True))
    return int(level[at]) if within and inside[at] else 0


@given(regions())
def test_runs_by_walking_each_line(case: tuple[np.ndarray, np.ndarray]) -> None:
    level, inside = case
    flat, voxels, steps, directions = prepared(level, inside)
    found = run_counts(flat, voxels, steps, 4, max(level.shape))
    for s, d in enumerate(directions):
        want: Counter[tuple[int, int]] = Counter()
        for at in map(tuple, np.argwhere(inside)):
            own = level[at]
            if level_at(level, inside, tuple(np.subtract(at, d))) == own:
                continue
            length, end = 1, tuple(np.add(at, d))
            while level_at(level, inside, end) == own:
                length, end = length + 1, tuple(np.add(end, d))
            want[(int(own), length)] += 1
        got = {(int(i) + 1, int(r) + 1): int(found[s, i, r]) for i, r in np.argwhere(found[s])}
        assert got == dict(want)


@given(regions())
def test_zones_are_the_connected_components(case: tuple[np.ndarray, np.ndarray]) -> None:
    level, inside = case
    flat, voxels, steps, directions = prepared(level, inside)
    alone = [int(s) for s, d in zip(steps, directions, strict=True) if sum(map(abs, d)) == 1]
    zone_level, zone_size = zones(flat, voxels, steps, max(alone, default=1))
    want: list[tuple[int, int]] = []
    for own in range(1, 5):
        label, n = ndimage.label((level == own) & inside, np.ones((3, 3, 3)))
        want += [(own, int(size)) for size in np.bincount(label.ravel())[1 : n + 1]]
    assert sorted(zip(zone_level.tolist(), zone_size.tolist(), strict=True)) == sorted(want)
    counts, size = zone_matrix(zone_level, zone_size, 4)
    got = {(int(i) + 1, int(size[c])): int(counts[0, i, c]) for i, c in np.argwhere(counts[0])}
    assert got == dict(Counter(want))


@given(regions())
def test_lines_that_hold_two_voxels(case: tuple[np.ndarray, np.ndarray]) -> None:
    _, inside = case
    at = [tuple(map(int, a)) for a in np.argwhere(inside)]
    for d in directions_of(inside.shape, False):
        reach = range(1, max(inside.shape))
        want = any(tuple(np.add(a, np.multiply(k, d))) in at for a, k in product(at, reach))
        assert shares_a_line(inside, *d) == want


@given(regions(), st.sampled_from([(25.0, None), (None, 6)]), st.booleans())
def test_bytes_give_the_features_of_floats(
    case: tuple[np.ndarray, np.ndarray], bins: tuple[float | None, int | None], in_plane: bool
) -> None:
    level, inside = case
    image = (level * 37 + np.arange(level.size).reshape(level.shape) % 11).astype(np.uint8)
    options = {"bin_width": bins[0], "bin_count": bins[1], "in_plane": in_plane}
    a, levels = intensity_features(image, inside, 0.5, **options)
    b, same = intensity_features(image.astype(float), inside, 0.5, **options)
    assert levels == same
    assert a == {name: pytest.approx(value, rel=1e-12, abs=1e-12, nan_ok=True) for name, value in b.items()}


def test_names_are_known_without_an_image() -> None:
    names = feature_names()
    assert len(names) == 93
    assert feature_names(("glcm",)) == tuple(name for name in names if name.startswith("glcm"))
    assert {name.split("_")[0] for name in names} == {"firstorder", *TEXTURE}
