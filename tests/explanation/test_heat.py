"""Heat maps over pictures: the picture stays where it is cold, a line at half the heat, bytes that repeat."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from osml.errors import InvalidInputError
from osml.explanation.heat import overlay, overlay_png

PICTURE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)


def warm_corner() -> np.ndarray:
    y, x = np.mgrid[:60, :80]
    return np.clip(1 - np.hypot(y, x) / 40, 0, 1)


def test_cold_parts_are_the_picture_itself() -> None:
    assert np.array_equal(overlay(PICTURE, np.zeros((60, 80))), PICTURE)
    heat = warm_corner()
    assert np.array_equal(overlay(PICTURE, heat)[heat == 0], PICTURE[heat == 0])


def test_the_warmest_place_keeps_nearly_half_of_the_picture() -> None:
    white = np.full((40, 40, 3), 255, dtype=np.uint8)
    hot, black = overlay(white, np.ones((40, 40))), overlay(np.zeros_like(white), np.ones((40, 40)))
    assert (hot.astype(int) - black).min() == pytest.approx(0.45 * 255, abs=1)


def test_a_white_line_runs_where_half_of_the_heat_is_reached() -> None:
    heat = warm_corner()
    grey = np.full((60, 80, 3), 90, dtype=np.uint8)
    line = (overlay(grey, heat) == 255).all(axis=2)
    assert line.any()
    assert heat[line].max() < 0.5
    assert heat[line].min() > 0.4


def test_colours_grow_lighter_with_heat() -> None:
    black = np.zeros((1, 256, 3), dtype=np.uint8)
    shown = overlay(np.repeat(black, 9, axis=0), np.tile(np.linspace(0, 0.49, 256), (9, 1)))
    light = shown[0].astype(float) @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(light) > -2).all()
    assert light[-1] > light[0] + 20


def test_the_png_holds_these_pixels_and_repeats() -> None:
    heat = warm_corner()
    data = overlay_png(PICTURE, heat)
    assert data == overlay_png(PICTURE, heat)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), overlay(PICTURE, heat))


@pytest.mark.parametrize(
    "picture, heat, words",
    [
        (PICTURE.astype(float), np.zeros((60, 80)), "uint8"),
        (PICTURE[:, :, 0], np.zeros((60, 80)), "uint8"),
        (PICTURE, np.zeros((80, 60)), "heat"),
        (PICTURE, np.full((60, 80), 1.2), "outside 0 to 1"),
        (PICTURE, np.full((60, 80), np.nan), "outside 0 to 1"),
    ],
)
def test_what_does_not_fit_is_refused(picture: np.ndarray, heat: np.ndarray, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        overlay_png(picture, heat)
