"""Galleries: chosen cases, each picture beside its Grad-CAM, from out-of-fold predictions and the fold's own network.

They show patients' pictures. They lie in the run's report folder and enter no bundle and no page.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import Cohort
from osml.errors import NotEstimableError, VerificationError
from osml.explanation.cam import run_encoders, unit_heat, unit_pictures
from osml.explanation.cases import HIGHER, KINDS, Calls, Case, aliases, calls_of, choose_cases
from osml.explanation.drawing import GRID, INK, QUIET, new_figure, pen
from osml.explanation.heat import COLOURS, overlay
from osml.explanation.held_out import HeldOut, image_inputs, picture_root
from osml.predictors.network import FittedNetwork
from osml.runs.store import read_predictions
from osml.schema.model import Schema

Pixels = NDArray[np.uint8]
SHOWN_PX = 640  # longest side of a picture before it is drawn
RESOLUTION_DPI = 300
# In inches, on a page of A4 with margins.
WIDTH, LABEL, GAP, TEXT, HEADING, EDGE, EMPTY = 7.2, 0.62, 0.07, 0.3, 0.27, 0.06, 0.35
ACROSS = 4
# Of the score that the pictures give now against the one that was stored.
SAME_SCORE = 0.02
_WORDS = {"right": "surest\nright", "wrong": "surest\nwrong", "uncertain": "least\nsure", "surest": "surest"}
HEADER = (
    "class_predicted", "kind", "position", "patient", "truth", "how_sure", "entropy", "input", "picture",
    "of_pictures", "warm_share",
)  # fmt: skip


@dataclass(frozen=True)
class Tile:
    """A case as it is drawn.

    picture, heated : uint8 (h, w, 3): the unit's warmest picture, and with its heat map
    input, number, pictures : which picture of which input it is, of how many
    warm : share of its area at or above half the largest heat
    """

    case: Case
    alias: str
    truth: str
    shown: str
    doubt: float
    picture: Pixels
    heated: Pixels
    input: str
    number: int
    pictures: int
    warm: float


def gallery_tiles(
    run: Path, schema: Schema, name: str, held: Sequence[HeldOut], cohort: Cohort
) -> tuple[tuple[Tile, ...], Calls]:
    """The cases of a network with pictures.

    held : its networks in the first repeat
    cohort : of the run, whole

    Raises
    ------
    NotEstimableError
        The network reads no picture.
    VerificationError
        The pictures give another score than the stored one.
    """
    if not image_inputs(schema, name):
        raise NotEstimableError(f"{name} reads no picture")
    rows = [r for r in read_predictions(run / "predictions.parquet") if r.predictor == name and r.repeat == 0]
    calls = calls_of(rows, cohort)
    lp = {(row.unit, row.column): row.lp for row in rows}
    names = aliases(cohort.patient_ids, schema.validation.seed)
    networks = {one.fold.index: one for one in held}
    encoders = run_encoders(schema, held[0].fitted)  # one recipe in all folds
    root = picture_root(run, schema)
    seen = {
        u
        for item in image_inputs(schema, name)
        for u, paths in zip(cohort.units, cohort.paths(item), strict=True)
        if paths
    }
    out = []
    for case in choose_cases(calls, np.array([unit in seen for unit in calls.units])):
        one = networks[calls.fold[case.index]]
        unit = calls.units[case.index]
        alone = one.test.take(np.array([one.test.units.index(unit)]))
        pictures = unit_pictures(schema, name, alone, 0, root)
        column, against = target_of(one.fitted, case.called)
        small = {item: [_small(p) for p in several] for item, several in pictures.items()}
        heat = unit_heat(one.fitted, alone, pictures, column, against=against, encoders=encoders)
        stored = lp[unit, column] if (unit, column) in lp else next(v for (u, _), v in lp.items() if u == unit)
        if abs(heat.score - stored) > SAME_SCORE * max(1.0, abs(stored)):
            raise VerificationError(
                f"{name}: a patient's pictures give a score of {heat.score:.4g} and gave {stored:.4g}",
                why="They, or the encoder, are not those that the run was made with, so its decision is not explained.",
                do="Put the files back, or run `osml fit` again.",
            )
        item, j = _warmest(heat.maps)
        warm = _fitted(heat.maps[item][j], small[item][j].shape[:2])
        out.append(
            Tile(
                case, names[calls.patients[case.index]], calls.truth[case.index], calls.shown[case.index],
                float(calls.doubt[case.index]), small[item][j], overlay(small[item][j], warm), item, j + 1,
                len(heat.maps[item]), float((warm >= 0.5).mean()),
            )
        )  # fmt: skip
    return tuple(out), calls


def target_of(fitted: FittedNetwork, called: str) -> tuple[str, bool]:
    """The output whose heat speaks for a predicted class, and whether it is what lowers that output."""
    if fitted.target == "survival":
        return fitted.columns[0], called != HIGHER
    if fitted.target == "binary":
        return fitted.columns[0], called != fitted.columns[0]
    return called, False


def gallery_rows(tiles: Sequence[Tile]) -> list[tuple[Any, ...]]:
    """What is shown, one row a tile, as `HEADER` names it; no id."""
    seen: dict[tuple[str, str], int] = {}
    out = []
    for t in tiles:
        key = t.case.called, t.case.kind
        seen[key] = seen.get(key, 0) + 1
        out.append((
            *key, seen[key], t.alias, t.truth, t.shown, round(t.doubt, 4), t.input, t.number, t.pictures,
            round(t.warm, 4),
        ))  # fmt: skip
    return out


def draw_gallery(tiles: Sequence[Tile], calls: Calls, title: str) -> bytes:
    """PNG at 300 dots per inch, 7.2 inches wide: a band a predicted class, a row a kind, a tile a case."""
    kinds = ("surest",) if calls.right is None else KINDS
    rows = [(name, kind) for name in calls.classes for kind in kinds]
    each = (WIDTH - EDGE - LABEL - (ACROSS - 1) * 2 * GAP) / ACROSS  # of a tile: two pictures side by side
    side = (each - 0.02) / 2
    step = side + TEXT + GAP
    filled = {(t.case.called, t.case.kind) for t in tiles}
    height = 0.3 + len(calls.classes) * HEADING + sum(step if row in filled else EMPTY for row in rows) + 0.55
    with pen(font_size=6.5):
        figure = new_figure(height, WIDTH)
        figure.set_layout_engine("none")
        figure.text(EDGE / WIDTH, 1 - 0.08 / height, title, fontsize=9, fontweight="bold", va="top")
        y = 0.3
        for name in calls.classes:
            figure.text(EDGE / WIDTH, 1 - (y + 0.1) / height, f"Predicted: {name}", fontsize=8, color=INK, va="center")
            figure.add_artist(_line(EDGE / WIDTH, 1 - EDGE / WIDTH, 1 - (y + 0.2) / height))
            y += HEADING
            for kind in kinds:
                mine = [t for t in tiles if (t.case.called, t.case.kind) == (name, kind)]
                middle = 1 - (y + (side if mine else EMPTY - GAP) / 2) / height
                figure.text(EDGE / WIDTH, middle, _WORDS[kind], fontsize=7, color=QUIET, va="center")
                if not mine:
                    figure.text(LABEL / WIDTH, middle, "none", color=QUIET, va="center")
                for k, tile in enumerate(mine):
                    x = LABEL + k * (each + 2 * GAP)
                    for n, pixels in enumerate((tile.picture, tile.heated)):
                        left = x + n * (side + 0.02)
                        axes = figure.add_axes((left / WIDTH, 1 - (y + side) / height, side / WIDTH, side / height))
                        axes.set_axis_off()
                        axes.set_anchor("N")
                        axes.imshow(pixels, interpolation="antialiased")
                    figure.text(x / WIDTH, 1 - (y + side + 0.03) / height, _words(tile, calls), va="top", fontsize=6)
                y += step if mine else EMPTY
        _scale(figure, height)
        sink = io.BytesIO()
        figure.savefig(sink, format="png", dpi=RESOLUTION_DPI, metadata={"Software": None})
    return sink.getvalue()


def _words(tile: Tile, calls: Calls) -> str:
    first = tile.alias + (f", picture {tile.number} of {tile.pictures}" if tile.pictures > 1 else "")
    truth = tile.truth if calls.right is None else f"true: {tile.truth}"
    return f"{_cut(first)}\n{_cut(truth)}\n{_cut(tile.shown)}"


def _cut(text: str, most: int = 36) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _line(left: float, right: float, y: float) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([left, right], [y, y], color=GRID, linewidth=0.8)


def _scale(figure: Any, height: float) -> None:
    """The colours of the heat, and what they mean."""
    axes = figure.add_axes((EDGE / WIDTH, 0.26 / height, 1.2 / WIDTH, 0.09 / height))
    axes.imshow(np.linspace(0, 1, 256)[None], aspect="auto", cmap=COLOURS, extent=(0, 1, 0, 1))
    axes.axvline(0.5, color="#ffffff", linewidth=1.2)
    axes.set_yticks([])
    axes.set_xticks([0, 0.5, 1], ["0", "half", "most"], fontsize=6)
    axes.tick_params(length=2, pad=1)
    words = (
        "Right picture: Grad-CAM, what speaks for the predicted class, relative to the warmest place of the unit's "
        "pictures. The white line\nencloses at least half of that. Its grain is the encoder's grid; it shows where a "
        "network looked, not why, and not that it is right.\nOut-of-fold: no network shown was trained on its patient. "
        "Contains patients' pictures: not for passing on."
    )
    figure.text(1.5 / WIDTH, 0.38 / height, words, fontsize=6, color=QUIET, va="top")


def _warmest(maps: Mapping[str, Sequence[NDArray[np.float32]]]) -> tuple[str, int]:
    """Input and position of the picture that holds the warmest place; the first where nothing is warm."""
    best = [(item, j, float(one.max())) for item, several in maps.items() for j, one in enumerate(several)]
    item, j, _ = max(best, key=lambda entry: entry[2])
    return item, j


def _small(picture: Pixels) -> Pixels:
    from PIL import Image

    h, w = picture.shape[:2]
    if max(h, w) <= SHOWN_PX:
        return picture
    share = SHOWN_PX / max(h, w)
    size = max(1, round(w * share)), max(1, round(h * share))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def _fitted(heat: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    from osml.nets.gradcam import fit_maps

    return fit_maps(heat[None], shape)[0].clip(0, 1)
