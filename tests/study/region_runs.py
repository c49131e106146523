"""Region studies on disk whose classifier is a stand-in: it knows what was drawn and errs by a rule, so that a whole
study is run in seconds and what it should say is known beforehand."""

from __future__ import annotations

import copy
import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import slide_schema, write_csv_table, write_schema
from PIL import Image

import osml.nets.refine
import osml.predictors.slide
import osml.predictors.slide_fit
import osml.predictors.slide_prepare
from osml.files import read_json, write_json
from osml.imaging.slides import open_slide
from osml.imaging.slides_labels import label_raster
from osml.predictors.slide_maps import cells_of
from osml.predictors.slide_prepare import PreparedSlide, plan_slide
from osml.predictors.slide_recipe import SlideCase, SlideRecipe, recipe_facts
from osml.study.fit import FitResult, fit
from osml.synthetic.slides import write_pyramid

# Cells of 16 µm are 32 pixels of the drawn slides.
CELL, SIDE = 32, 1024
COLOURS = {"BG": (255, 255, 255), "VT": (200, 30, 40), "NC": (60, 60, 60)}
HEADER = ("case", "slide", "path", "annotation")


def draw_slide(folder: Path, name: str, dead: float, seed: int = 0) -> None:
    """A slide of one island of tissue, of which the lower `dead` of the rows is necrosis, and its mask."""
    rng = np.random.default_rng([seed, *name.encode()])
    n = SIDE // CELL
    labels = np.zeros((n, n), dtype=np.uint8)
    labels[6:26, 6:26] = 1
    labels[26 - round(20 * dead) : 26, 6:26] = 2
    colours = np.array([(244, 244, 244), (120, 40, 110), (190, 90, 150)], dtype=np.float64)
    picture = colours[labels].repeat(CELL, axis=0).repeat(CELL, axis=1)
    picture = np.clip(picture + rng.normal(0, 3, picture.shape), 0, 255).astype(np.uint8)
    (folder / "masks").mkdir(parents=True, exist_ok=True)
    write_pyramid(folder / "slides" / f"{name}.tif", picture, 0.5)
    mask = np.array(list(COLOURS.values()), dtype=np.uint8)[labels].repeat(8, axis=0).repeat(8, axis=1)
    Image.fromarray(mask).save(folder / "masks" / f"{name}.png")


def region_study(folder: Path, patients: int = 6, **changes: Any) -> tuple[Path, list[list[str]]]:
    """Slides, table and schema of a study: P1 has two slides; the slide of Q1 is not annotated."""
    rows = []
    for number in range(1, patients + 1):
        for letter in "AB" if number == 1 else "A":
            name = f"P{number}-{letter}"
            draw_slide(folder, name, dead=number / (patients + 1))
            rows.append([f"P{number}", name, f"slides/{name}.tif", f"masks/{name}.png"])
    draw_slide(folder, "Q1-A", 0.5)
    rows.append(["Q1", "Q1-A", "slides/Q1-A.tif", ""])
    return write_study(folder, rows, **changes), rows


def write_study(folder: Path, rows: Sequence[Sequence[str]], **changes: Any) -> Path:
    """The table of these rows and its schema; changes are top-level blocks that are merged in."""
    data = copy.deepcopy(slide_schema())
    data["cohort"] = {"table": "slides.csv", "patient": "case", "row": "slide"}
    data["inputs"]["wsi"] |= {"column": "path", "mpp": "from_file"}
    data["predictors"]["necrosis"] = {"kind": "slide", "inputs": ["wsi"], "refine": "best"}
    data["validation"] = {"split": {"kind": "kfold", "folds": 3}, "inner": {"folds": 2}, "seed": 3}
    for key, value in changes.items():
        data[key] = value
    write_csv_table(folder / "slides.csv", rows, HEADER)
    return write_schema(folder, data)


@dataclass(frozen=True)
class StandInRefiner:
    """A refiner by name: `majority` repairs nothing, the others repair half of the columns that the coarse map has
    wrong."""

    kind: str


@dataclass(frozen=True)
class StandInWeights:
    """What a bundle keeps of an encoder."""

    def as_json(self) -> dict[str, str]:
        return {"model": "stand-in", "source": "package", "name": "none", "sha256": "0", "licence": ""}


@dataclass(frozen=True)
class StandIn:
    """Maps what was drawn, with the tissue of the right-hand columns exchanged: 8 of 20 coarse, 4 once refined."""

    recipe: SlideRecipe
    refiner: StandInRefiner
    training: tuple[str, ...]
    weights: StandInWeights = field(default_factory=StandInWeights)

    def coarse(self, prepared: PreparedSlide, *, device: str) -> np.ndarray[Any, Any]:
        return self._map(prepared, 8)

    def refined(self, prepared: PreparedSlide, *, device: str, coarse: Any = None) -> np.ndarray[Any, Any]:
        return self._map(prepared, 8 if self.refiner.kind == "majority" else 4)

    def _map(self, prepared: PreparedSlide, wrong: int) -> np.ndarray[Any, Any]:
        assert prepared.case.patient not in self.training, "a training patient's slide is mapped"
        truth = truth_of(prepared.case)
        part = truth[:, 26 - wrong : 26]
        part[:] = np.choose(part, [0, 2, 1])
        return np.eye(3, dtype=np.float32)[truth].transpose(2, 0, 1)

    def record(self) -> dict[str, Any]:
        facts = {"size_um": 128.0, "stride_um": 128.0, "cell_um": 16.0, "tune": "frozen", "slides": 1, "tiles": 1}
        return {
            "refiner": self.refiner.kind,
            "encoder": self.weights.as_json(),
            "patients": len(self.training),
            **facts,
        }

    def with_limit(self, limit: Any) -> StandIn:
        return self

    def save(self, folder: Path) -> None:
        write_json(folder / "slide.json", {"recipe": recipe_facts(self.recipe), "refiner": self.refiner.kind})
        LEARNT[folder.parent] = self


LEARNT: dict[Path, StandIn] = {}


def truth_of(case: SlideCase) -> np.ndarray[Any, Any]:
    """Classes of a drawn slide on its cells, from its mask."""
    mask = np.asarray(Image.open(case.path.parents[1] / "masks" / f"{case.slide}.png"))[4::8, 4::8]
    labels = np.zeros(mask.shape[:2], dtype=np.int64)
    for number, colour in enumerate(COLOURS.values()):
        labels[(mask == colour).all(axis=2)] = number
    return labels


@dataclass
class Stage:
    """What the stand-ins were asked to do."""

    prepared: list[str] = field(default_factory=list)
    fitted: list[tuple[str, ...]] = field(default_factory=list)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stage:
    """Stand-ins for preparing and fitting; both keep count."""
    return set_stage(monkeypatch, tmp_path)


def set_stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stage:
    """The stand-ins, for as long as the patch lasts."""
    seen = Stage()
    monkeypatch.setenv("OSML_CACHE", str(tmp_path / "cache"))

    def prepare(case: SlideCase, recipe: SlideRecipe, *, cache: Path, device: str) -> PreparedSlide:
        seen.prepared.append(case.slide)
        folder = cache / case.slide
        folder.mkdir(parents=True, exist_ok=True)
        with open_slide(case.path, mpp=case.mpp, name=case.slide) as slide:
            plan = plan_slide(slide, recipe, None)
            inside = plan.tissue.inside.astype(np.uint8) * np.uint8(255)
            np.save(folder / "tissue.npy", cells_of(inside, plan.tissue.scale, plan.frame, 0))
            if case.annotation is not None:
                raster = label_raster(slide, case.annotation, recipe.classes, mpp=plan.frame.mpp)
                np.save(folder / "labels.npy", raster.labels)
            size, mpp = (slide.width, slide.height), slide.mpp
        return PreparedSlide(
            case=case, folder=folder, grid=plan.grid, frame=plan.frame, size=size, mpp=mpp,
            tissue_mm2=plan.tissue.area_mm2, notes=(), thumbnail_scale=1.0,
        )  # fmt: skip

    def fit_beside(
        prepared: Sequence[PreparedSlide], recipe: SlideRecipe, kinds: Sequence[str], **_: Any
    ) -> tuple[StandIn, dict[str, StandInRefiner]]:
        training = tuple(dict.fromkeys(p.case.patient for p in prepared))
        assert all(p.annotated for p in prepared)
        seen.fitted.append(training)
        kind = "unet" if recipe.refine == "best" else recipe.refine
        return StandIn(recipe, StandInRefiner(kind), training), {k: StandInRefiner(k) for k in kinds if k != kind}

    def save_refiner(folder: Path, refiner: StandInRefiner) -> None:
        write_json(folder / "refiner.json", {"kind": refiner.kind})

    monkeypatch.setattr(osml.predictors.slide_prepare, "prepare_slide", prepare)
    monkeypatch.setattr(osml.predictors.slide_fit, "fit_slide_beside", fit_beside)
    monkeypatch.setattr(osml.predictors.slide, "load_slide", lambda folder: LEARNT[folder.parent])
    monkeypatch.setattr(osml.nets.refine, "save_refiner", save_refiner)
    monkeypatch.setattr(
        osml.nets.refine, "load_refiner", lambda folder: StandInRefiner(read_json(folder / "refiner.json")["kind"])
    )
    return seen


def run(schema: Path, runs: Path, said: list[str] | None = None, **options: Any) -> FitResult:
    """`fit` in this process."""
    say = (said if said is not None else []).append
    return fit(schema, runs=runs, workers=1, quiet=True, say=say, **options)


def lines(path: Path) -> list[dict[str, str]]:
    """A CSV as dictionaries."""
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


__all__ = ["Stage", "draw_slide", "lines", "region_study", "run", "set_stage", "stage", "write_study"]
