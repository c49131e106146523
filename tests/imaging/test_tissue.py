"""Tissue and nuclei masks on drawn pictures whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from osml.errors import InvalidInputError
from osml.imaging.stain import separate
from osml.imaging.tissue import drop_small, measure, nuclei_mask, otsu, tissue_mask

GLASS, PINK, PURPLE = (244, 243, 244), (228, 160, 190), (90, 60, 140)


def disc(shape: tuple[int, int], y: float, x: float, radius: float) -> np.ndarray:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def slide(noise: float = 2.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A pink square with twelve purple discs on glass; picture, tissue, nuclei."""
    shape = (160, 160)
    tissue, nuclei = np.zeros(shape, bool), np.zeros(shape, bool)
    tissue[20:140, 30:150] = True
    for y in (40, 70, 100):
        for x in (50, 75, 100, 125):
            nuclei |= disc(shape, y, x, 5)
    rgb = np.where(nuclei[..., None], PURPLE, np.where(tissue[..., None], PINK, GLASS))
    rng = np.random.default_rng(1)
    return np.clip(rgb + rng.normal(0, noise, rgb.shape), 0, 255).astype(np.uint8), tissue, nuclei


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_tissue_and_nuclei_are_found() -> None:
    rgb, tissue, nuclei = slide()
    found = tissue_mask(rgb)
    assert found.reason == ""
    assert dice(found.inside, tissue) > 0.96
    cells = nuclei_mask(separate(rgb)[0], found.inside)
    assert cells.reason == ""
    assert ndimage.label(cells.inside)[1] == 12
    assert dice(cells.inside, nuclei) > 0.85


def test_a_tile_full_of_tissue_is_not_split() -> None:
    rgb, _, _ = slide()
    assert tissue_mask(rgb[25:135, 35:145]).inside.all()


def test_specks_and_holes() -> None:
    shape = (120, 120)
    tissue = np.zeros(shape, bool)
    tissue[10:110, 40:110] = True
    speck, small, large = disc(shape, 60, 15, 3), disc(shape, 30, 70, 4), disc(shape, 80, 75, 12)
    rgb = np.where(((tissue & ~small & ~large) | speck)[..., None], PINK, GLASS).astype(np.uint8)
    found = tissue_mask(rgb, min_area_px=100, max_hole_px=100).inside
    assert not found[speck].any()
    assert found[small].all()
    assert not found[80, 75]
    assert tissue_mask(rgb, min_area_px=0, max_hole_px=0).inside[60, 15]


def test_holes_at_the_border_follow_the_same_rule() -> None:
    rgb = np.full((60, 60, 3), PINK, np.uint8)
    rgb[:5, :5] = GLASS
    assert tissue_mask(rgb, max_hole_px=100).inside.all()


@pytest.mark.parametrize(
    "colour, reason",
    [
        ((255, 255, 255), "blank"), (GLASS, "blank"), ((0, 0, 0), "no colour"), ((120, 120, 120), "no colour"),
        ((0, 0, 15), "no colour"),
    ],
)  # fmt: skip
def test_tiles_without_tissue_have_a_reason(colour: tuple[int, int, int], reason: str) -> None:
    rgb = np.full((50, 40, 3), colour, np.uint8)
    tissue = tissue_mask(rgb)
    assert not tissue.inside.any()
    assert tissue.reason.startswith(reason)
    nuclei = nuclei_mask(separate(rgb)[0], tissue.inside)
    assert nuclei.reason == "no tissue"
    assert not nuclei.inside.any()


@pytest.mark.parametrize("colour", [PINK, PURPLE])
def test_one_colour_is_tissue_without_nuclei(colour: tuple[int, int, int]) -> None:
    rgb = np.full((50, 40, 3), colour, np.uint8)
    tissue = tissue_mask(rgb)
    assert tissue.inside.all()
    assert nuclei_mask(separate(rgb)[0], tissue.inside).reason.startswith("no haematoxylin above")


def test_only_specks_are_no_tissue() -> None:
    rgb = np.full((50, 50, 3), 250, np.uint8)
    rgb[20:23, 20:23] = PURPLE
    assert tissue_mask(rgb, min_area_px=200).reason == "no tissue of 200 pixels or more"


def test_seams_and_small_spots_are_not_nuclei() -> None:
    rgb = np.full((100, 100, 3), PINK, np.uint8)
    rgb[48:51, 5:95] = PURPLE
    rgb[80:82, 80:82] = PURPLE
    tissue = np.ones((100, 100), bool)
    found = nuclei_mask(separate(rgb)[0], tissue)
    assert found.reason == "no nucleus of 12 pixels or more"
    rgb[disc((100, 100), 20, 20, 5)] = PURPLE
    found = nuclei_mask(separate(rgb)[0], tissue)
    assert found.reason == ""
    assert ndimage.label(found.inside)[1] == 1


def test_an_opening_cuts_bridges() -> None:
    rgb = np.full((80, 80, 3), PINK, np.uint8)
    rgb[disc((80, 80), 40, 25, 9) | disc((80, 80), 40, 55, 9)] = PURPLE
    rgb[39:42, 25:55] = PURPLE
    tissue = np.ones((80, 80), bool)
    h = separate(rgb)[0]
    counts = [ndimage.label(nuclei_mask(h, tissue, opening_px=k).inside)[1] for k in (0, 3)]
    assert counts == [1, 2]


@given(st.lists(st.integers(0, 12), min_size=2, max_size=60).filter(lambda v: len(set(v)) > 1))
def test_otsu_maximises_the_variance_between_classes(values: list[int]) -> None:
    x = np.array(values, dtype=float)

    def between(t: float) -> float:
        low, high = x[x <= t], x[x > t]
        return low.size * high.size * (low.mean() - high.mean()) ** 2 if low.size and high.size else 0.0

    best = max(between(t) for t in np.unique(x))
    # The mean of a bin stands for its values: up to 12/256 apart.
    assert between(otsu(x)) >= 0.98 * best


def test_otsu_of_a_constant_and_of_nan() -> None:
    assert otsu(np.full(5, 3.0)) == 3.0
    with pytest.raises(InvalidInputError, match="NaN"):
        otsu(np.array([1.0, np.nan]))


@pytest.mark.parametrize("height, width", [(6, 6), (4, 12), (1, 9)])
def test_axes_of_a_rectangle(height: int, width: int) -> None:
    """A solid rectangle a × b has variances a²/12 and b²/12, so full axes 4a/√12 and 4b/√12."""
    mask = np.zeros((20, 20), int)
    mask[5 : 5 + height, 3 : 3 + width] = 1
    shapes = measure(mask, 1)
    assert shapes.area.tolist() == [height * width]
    assert shapes.major[0] == pytest.approx(4 * max(height, width) / 12**0.5, rel=1e-12)
    assert shapes.minor[0] == pytest.approx(4 * min(height, width) / 12**0.5, rel=1e-12)
    ratio = min(height, width) / max(height, width)
    assert shapes.eccentricity[0] == pytest.approx((1 - ratio**2) ** 0.5, rel=1e-12, abs=1e-7)
    assert not shapes.on_border[0]


def test_shapes_do_not_change_when_turned_and_know_the_border() -> None:
    mask = np.zeros((30, 30), int)
    mask[np.arange(4, 16), np.arange(6, 18)] = 1
    mask[np.arange(4, 16), np.arange(7, 19)] = 1
    mask[0:3, 25:28] = 2
    a, b = measure(mask, 2), measure(np.rot90(mask), 2)
    assert b.major == pytest.approx(a.major, rel=1e-12)
    assert b.minor == pytest.approx(a.minor, rel=1e-12)
    assert a.on_border.tolist() == b.on_border.tolist() == [False, True]


def test_no_objects() -> None:
    assert measure(np.zeros((4, 4), int), 0).area.size == 0
    assert not drop_small(np.zeros((4, 4), bool), 5).any()


def test_small_objects_are_dropped_by_four_neighbours() -> None:
    mask = np.eye(6, dtype=bool)
    assert not drop_small(mask, 2).any()
    assert drop_small(mask, 1).sum() == 6


@pytest.mark.parametrize(
    "call",
    [
        lambda: tissue_mask(np.zeros((5, 5, 3), np.uint8), min_area_px=-1),
        lambda: nuclei_mask(np.zeros((5, 5), np.float32), np.ones((5, 6), bool)),
        lambda: nuclei_mask(np.zeros((5, 5), np.float32), np.ones((5, 5), bool), around_px=1),
    ],
)
def test_wrong_sizes_are_refused(call: object) -> None:
    with pytest.raises(InvalidInputError):
        call()  # type: ignore[operator]
