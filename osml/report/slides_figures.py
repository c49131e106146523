"""Figures of a region study: rates of patients, and held-out slides as they were drawn and predicted."""

from __future__ import annotations

from typing import Any

from osml.explanation.drawing import BLUE, QUIET, pen
from osml.files import read_json
from osml.report.exhibit import Exhibit, unavailable
from osml.report.slides_words import KINDS, Slides, points

_SIDE_IN = 4.2


def necrosis_exhibit(run: Slides, name: str) -> Exhibit:
    """Reference against held-out prediction of the necrosis rate, one point per patient."""
    key, title = f"necrosis_{name}", f"Necrosis rate of patients, {run.label(name)}"
    found = run.metrics["predictors"][name]
    rows = [r for r in found["necrosis_by_patient"] if r["reference"] is not None and r["predicted_there"] is not None]
    if not rows:
        return unavailable(key, title, "No patient has both a reference and a predicted rate.")
    from matplotlib.figure import Figure

    with pen():
        figure = Figure(figsize=(_SIDE_IN, _SIDE_IN), layout="constrained")
        axes = figure.add_subplot()
        axes.plot([0, 100], [0, 100], color=QUIET, linewidth=0.9, linestyle=(0, (4, 3)), label="equal")
        axes.scatter(
            [100 * r["reference"] for r in rows], [100 * r["predicted_there"] for r in rows], s=26, color=BLUE,
            alpha=0.85, linewidths=0, label="a patient",
        )  # fmt: skip
        axes.axvline(90, color=QUIET, linewidth=0.7, linestyle=(0, (1, 2)))
        axes.axhline(90, color=QUIET, linewidth=0.7, linestyle=(0, (1, 2)))
        axes.set(xlim=(-3, 103), ylim=(-3, 103), aspect="equal")
        axes.set_xlabel("Reference, % of the tumour bed")
        axes.set_ylabel("Held-out prediction, %")
        axes.legend(loc="upper left")
    necrosis: dict[str, Any] = found["maps"][found["deployed"]]["necrosis"]
    error, bias = necrosis["mean_absolute"], necrosis["bias"]
    off = f"Mean absolute error {points(error['value'], 1)} points"
    caption = (
        f"{len(rows)} patients, on the area that is annotated, by the deployed map ({KINDS[found['deployed']]}). "
        f"Dotted: 90 %, a good response. {off}, bias (reference − prediction) "
        f"{points(bias['value'], 1, sign=True)} points."
    )
    data = [(r["patient"], r["reference"], r["predicted_there"]) for r in rows]
    return Exhibit(key, title, caption, figure, ("patient", "reference", "predicted"), data)


def overlay_exhibits(run: Slides, name: str) -> list[Exhibit]:
    """The slides with the lowest, middle and highest mean IoU; pictures that the fit left in the run."""
    file = run.path / "overlays" / f"{name}.json"
    if not file.is_file():
        return [unavailable(f"overlay_{name}", "Held-out slides", "The run holds no pictures of slides.")]
    facts = read_json(file)
    out = []
    for place, one in enumerate(facts, start=1):
        which = "Only" if len(facts) == 1 else {1: "Lowest", len(facts): "Highest"}.get(place, "Middle")
        rates = ""
        if one.get("reference") is not None and one.get("predicted") is not None:
            drawn, called = (f"{100 * one[side]:.0f} %" for side in ("reference", "predicted"))
            rates = f" Necrosis rate {drawn} as drawn, {called} as predicted."
        caption = (
            f"Left: as drawn. Right: as predicted by a model that did not see the patient ({KINDS[one['map']]}, fold "
            f"{one['fold']}). Mean IoU {100 * one['miou']:.1f} %.{rates} Uncoloured: background, or not annotated."
        )
        picture = (run.path / "overlays" / f"{name}-{place}.png").read_bytes()
        title = f"{which} mean IoU: slide {one['slide']}"
        header = ("slide", "patient", "fold", "map", "miou", "reference", "predicted")
        row = tuple(one.get(key) for key in header)
        out.append(Exhibit(f"overlay_{name}_{place}", title, caption, None, header, [row], picture=picture, wide=True))
    return out
