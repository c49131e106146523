"""Boosted trees: how they were made and what they look at; and of any predictor, what a search of settings did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from osml.report.classes import Cells
from osml.report.html import Markup, join, number, table, tag
from osml.report.run import Run
from osml.schema.tabular import BoostingPredictor

_SETTINGS = {
    "leaves": "leaves", "smallest_leaf": "rows in a leaf", "rate": "rate", "columns": "share of columns", "l2": "L2",
    "weight_decay": "weight decay", "dropout": "dropout", "head_dropout": "dropout of the head", "width": "width",
}  # fmt: skip


def boosted(run: Run) -> list[str]:
    """Boosting predictors of the study, those that failed included."""
    blocks = run.schema.predictors
    return [name for name in run.metrics["predictors"] if isinstance(blocks[name], BoostingPredictor)]


def section(run: Run) -> list[object]:
    """Everything of the section."""
    rows: list[Cells] = []
    gains: list[Cells] = []
    for name in boosted(run):
        facts = run.metrics["predictors"][name]
        found, path = facts.get("boosting"), ("predictors", name, "boosting")
        if found is None:
            rows.append(
                [name, ", ".join(run.schema.predictors[name].inputs), *[None] * 5, "not fitted to all patients"]
            )
            continue
        settings = ", ".join(f"{_SETTINGS[key]} {_short(value)}" for key, value in found["settings"].items())
        calibration = found["calibration"]
        words = str(calibration["kind"]) + (f" ({calibration['reason']})" if calibration["reason"] else "")
        encoders = ", ".join(f"{image}: {model}" for image, model in found["encoders"].items()) or "none"
        counts = [found[key] for key in ("columns", "used", "rounds")]
        rows.append([name, ", ".join(found["inputs"]), encoders, settings, words, *counts])
        for item, share in sorted(found["gain"].items(), key=lambda one: -one[1]):
            gains.append([name, item, number(share, 2, (*path, "gain", item))])
    header = ("Predictor", "Inputs", "Encoders", "Settings", "Calibrated", "Columns", "Looked at", "Trees")
    note = "The deployed model. Columns: what the inputs are made of; looked at: on which some tree splits. Trees: of "
    note += "classes for each class."
    made = table(header, rows, "How they were made", text_columns=5)
    out: list[object] = [join([made, tag("p", note, class_="note")])]
    if gains:
        words = "Share of the fall in training loss that splits on an input brought. It favours inputs with many "
        words += "columns or values; SHAP values under What the model does are out-of-fold."
        out.append(join([table(("Predictor", "Input", "Share of gain"), gains, "Gain by input", text_columns=2),
                         tag("p", words, class_="note")]))  # fmt: skip
    searched = search_table(run, boosted(run))
    return [*out, *([] if searched is None else [searched])]


def search_table(run: Run, names: Sequence[str]) -> Markup | None:
    """One line per predictor whose settings were searched for; None where none was."""
    rows: list[Cells] = []
    for name in names:
        found, path = run.metrics["predictors"][name].get("search"), ("predictors", name, "search")
        if found is None:
            continue
        chosen = ", ".join(f"{_SETTINGS[key]} {_span(ends)}" for key, ends in found["chosen"].items())
        final = found["final"] or {}
        deployed = ", ".join(f"{_SETTINGS[key]} {_short(value)}" for key, value in final.items()) or "–"
        gain = "–" if found["gain"] is None else number(found["gain"], 3, (*path, "gain"))
        counts = [found[state] for state in ("finished", "pruned", "failed")]
        rows.append([name, chosen, deployed, found["trials"], *counts, f"{found['kept']} of {_searches(found)}", gain])
    if not rows:
        return None
    header = (
        "Predictor", "Chosen in the folds", "Deployed", "Trials each", "Finished", "Pruned", "Failed", "Kept as it was",
        "Fall of inner loss",
    )  # fmt: skip
    note = "Settings tried on inner folds of every training set; test patients were out of reach. Counts are over all "
    note += (
        "folds. The fall is from the schema's own setting, on the very folds that chose: no evidence of a better model."
    )
    return join([table(header, rows, "Search of settings", text_columns=3), tag("p", note, class_="note")])


def _searches(found: Mapping[str, Any]) -> int:
    return max(int(found["folds"]), 1)


def _span(ends: Sequence[float]) -> str:
    low, high = ends
    return _short(low) if low == high else f"{_short(low)} to {_short(high)}"


def _short(value: float) -> str:
    return f"{value:.2g}" if isinstance(value, float) else str(value)
