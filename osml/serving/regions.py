"""Models of region studies: they map tissue on whole slides, and predict no table of patients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from osml.errors import RunError
from osml.imaging.slides_classes import SlideClass
from osml.runs.bundle import Bundle, open_bundle
from osml.runs.results import Grid
from osml.schema.model import Schema
from osml.schema.suggest import hint
from osml.serving.loading import bundle_folder, read_schema
from osml.serving.words import NOT_STATED

_FACTS = "slide.json"
NOT_A_REPORT = "Not a pathology report. No grade of response is asserted."
MEASURES = {"miou": "Mean IoU", "precision": "Precision", "recall": "Recall", "dice": "Dice", "accuracy": "Accuracy"}
KINDS = {
    "none": "no refiner", "majority": "majority", "unet": "U-Net, one step", "brownian_bridge": "Brownian bridge",
    "best": "best, chosen on inner patients",
}  # fmt: skip


@dataclass(frozen=True)
class RegionModel:
    """A slide predictor of a verified bundle. Immutable."""

    bundle: Bundle
    schema: Schema
    name: str
    facts: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        """Where `FittedSlide.save` wrote it."""
        return self.bundle.path / "predictors" / self.name

    @property
    def classes(self) -> tuple[SlideClass, ...]:
        """Classes of tissue in the order of their numbers; the first is the glass."""
        return tuple(
            SlideClass(code, _colour(kind["colour"]), kind["name"] or code)
            for code, kind in self.facts["classes"].items()
        )

    @property
    def own(self) -> Mapping[str, Any]:
        """Held-out performance of this predictor."""
        found: Mapping[str, Any] = self.facts["predictors"].get(self.name, {})
        return found


def is_region(path: Path) -> bool:
    """Whether a bundle maps tissue on slides."""
    return open_bundle(bundle_folder(path)).manifest.get("target") == "region"


def region_predictors(path: Path) -> tuple[str, ...]:
    """Slide predictors of a bundle."""
    parts = [name.split("/") for name in open_bundle(bundle_folder(path)).manifest["files"]]
    return tuple(p[1] for p in parts if len(p) == 3 and p[0] == "predictors" and p[2] == _FACTS)


def load_region(path: str | Path, predictor: str | None = None) -> RegionModel:
    """Open a slide predictor of a run or bundle; its networks are read by the process that segments.

    Raises
    ------
    RunError, VerificationError
        Not a region bundle, or one that was changed.
    """
    bundle = open_bundle(bundle_folder(Path(path)))
    names = region_predictors(bundle.path)
    if bundle.manifest.get("target") != "region" or not names:
        raise RunError(f"{path} holds no slide predictor", do="Give a run of a study with `target: {kind: region}`.")
    name = names[0] if predictor is None else predictor
    if name not in names:
        raise RunError(f"the bundle has no slide predictor {name!r}", do=hint(name, names))
    return RegionModel(bundle, read_schema(bundle), name, bundle.read("facts.json"))


def region_rows(model: RegionModel) -> list[tuple[str, str]]:
    """(heading, words) for the model card: what is mapped, for whom, how it was validated, identity."""
    facts, limit = model.facts, model.own.get("detection_limit") or {}
    rows = [
        ("Maps", str(facts["event"])),
        ("Classes", ", ".join(f"{kind.label} ({kind.name})" for kind in model.classes)),
        ("Time", str(facts["time_of_prediction"]).replace("_", " ")),
        ("Population", str(facts["population"] or NOT_STATED)),
        ("Centre", str(facts["centre"] or NOT_STATED)),
        ("Years", str(facts["period"] or NOT_STATED)),
        ("Developed with", f"{facts['n']} patients with annotated slides, {facts['rows']} such slides"),
        ("Validation", str(facts["validation"])),
    ]
    if limit.get("mm2") is not None:
        rows.append(("Viable areas are found reliably", f"from {limit['mm2']:.3g} mm²"))
    rows += [("Caution", f"{c['title']} [{c['code']}]" + _accepted(facts, c["code"])) for c in facts["checks"]]
    if facts["synthetic"]:
        rows.append(("Synthetic data", str(facts["synthetic"])))
    return [
        *rows,
        ("Not", NOT_A_REPORT),
        ("Model", f"{model.schema.name} / {model.name}"),
        ("osml", str(model.bundle.manifest["osml"])),
        ("SHA-256 of the manifest", model.bundle.model_hash),
    ]


def refiner_grid(model: RegionModel) -> Grid:
    """Held-out measures of every map, the deployed one marked."""
    rows = []
    for kind, found in model.own.get("maps", {}).items():
        name = KINDS.get(kind, kind) + (" (in use)" if kind == model.own.get("deployed") else "")
        error = (found.get("necrosis") or {}).get("mean_absolute")
        cells = [_span(found["overall"].get(key)) for key in MEASURES]
        rows.append((name, *cells, _span(error, 1)))
    return Grid(
        ("Map", *MEASURES.values(), "Error of the necrosis rate (points)"), tuple(rows),
        "Held-out patients, all slides pooled; intervals by drawing patients, where there are enough.",
    )  # fmt: skip


def class_grid(model: RegionModel) -> Grid:
    """Held-out measures of each class on the deployed map."""
    found = model.own.get("maps", {}).get(model.own.get("deployed"), {}).get("classes", {})
    labels = {kind.name: kind.label for kind in model.classes}
    keys = ("iou", "precision", "recall", "dice")
    rows = tuple(
        (
            labels.get(name, name),
            "" if one.get("share") is None else f"{100 * one['share']:.1f} %",
            *(_span(one.get(key)) for key in keys),
        )
        for name, one in found.items()
    )
    header = ("Class", "Share of the annotated tissue", "IoU", "Precision", "Recall", "Dice")
    return Grid(header, rows, "An absent class has no value.")


def _accepted(facts: Mapping[str, Any], code: str) -> str:
    reason = facts["accepted"].get(code)
    return f"; accepted: {reason}" if reason else ""


def _span(cell: Any, digits: int = 3) -> str:
    if not isinstance(cell, Mapping) or cell.get("value") is None:
        return ""
    words = f"{cell['value']:.{digits}f}"
    if cell.get("low") is not None:
        words += f" ({cell['low']:.{digits}f} to {cell['high']:.{digits}f})"
    return words


def _colour(text: str) -> tuple[int, int, int]:
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)
