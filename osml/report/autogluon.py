"""What AutoGluon says of its own models: leaderboard, failures and importance, by scores of its own inner folds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from osml.report.classes import Cells
from osml.report.html import Markup, join, number, table, tag
from osml.report.run import Run
from osml.report.wording import plural
from osml.schema.autogluon import AutogluonPredictor

NOT_TWICE = "With a time limit, how many models are fitted depends on the machine: another run may predict otherwise."


def autogluons(run: Run) -> list[str]:
    """AutoGluon predictors of the study, those that failed included."""
    blocks = run.schema.predictors
    return [name for name in run.metrics["predictors"] if isinstance(blocks[name], AutogluonPredictor)]


def section(run: Run) -> list[object]:
    """Everything of the section, predictor by predictor."""
    out: list[object] = []
    for name in autogluons(run):
        found = run.metrics["predictors"][name].get("autogluon")
        out.append(tag("h3", name))
        if found is None:
            out.append(tag("p", f"{name}: not fitted to all patients.", class_="absent"))
            continue
        path = ("predictors", name, "autogluon")
        out += [tag("p", made_words(found)), _leaderboard(name, found, path)]
        out += [_failures(found), _importance(name, found, path)]
    return out


def made_words(found: Mapping[str, Any]) -> str:
    """How the deployed models were made, in one paragraph without markup."""
    limit = found["time_limit"]
    parts = [
        f"Deployed: {plural(sum(bool(row['weight']) for row in found['leaderboard']), 'model')} of {found['planned']} "
        f"({found['presets']}), bagged over {plural(found['inner_folds'], 'inner fold')} of patients"
        + (", then fitted once more to all patients" if found["refit"] else ""),
        f"{plural(found['columns'], 'column')} of {', '.join(found['inputs'])}",
        "no time limit" if limit is None else f"time limit of each fit {plural(limit, 'second')}",
    ]
    if found["encoders"]:
        parts.append("frozen encoders " + ", ".join(f"{i}: {model}" for i, model in found["encoders"].items()))
    parts += [f"{name} is not learnt ({why}), and keeps its share" for name, why in found["rare"].items()]
    words = "; ".join(parts) + ". " + calibration_words(found["calibration"])
    return words if limit is None else f"{words} {NOT_TWICE}"


def calibration_words(found: Mapping[str, Any]) -> str:
    """Whether its probabilities were recalibrated, and why not."""
    if found["kind"] == "none":
        return f"Not recalibrated: {found['reason']}."
    words = "intercept and slope" if found["kind"] == "platt" else "a temperature"
    return f"Recalibrated by {words}: inner log-loss {found['before']:.3f}, then {found['after']:.3f}."


def _leaderboard(name: str, found: Mapping[str, Any], path: tuple[str | int, ...]) -> Markup:
    rows: list[Cells] = [
        [
            row["model"],
            "all weighted" if row["role"] == "ensemble" else "",
            number(row["log_loss"], 3, (*path, "leaderboard", k, "log_loss")),
            "–" if row["weight"] is None else number(row["weight"], 2, (*path, "leaderboard", k, "weight")),
        ]
        for k, row in enumerate(found["leaderboard"])
    ]
    note = (
        "AutoGluon's own scores: log-loss on the rows held out of its bags, lower is better. The weights of the "
        "ensemble were chosen on the same rows, so its score is too good; the outer folds above are the evidence."
    )
    header = ("Model", "", "Inner log-loss", "Weight")
    return join([table(header, rows, f"Its leaderboard, {name}", text_columns=2), tag("p", note, class_="note")])


def _failures(found: Mapping[str, Any]) -> Markup:
    folds = found["folds"]
    rows: list[Cells] = [
        [one["model"], one["reason"], f"{one['folds']} of {folds['counted']}"] for one in folds["failed"]
    ]
    rows += [[one["model"], one["reason"], "deployed fit"] for one in found["failures"]]
    missed = folds["not_reached"] + found["not_reached"]
    late = f" {plural(missed, 'model')} over all fits were not reached in time." if missed else ""
    if not rows:
        return tag("p", f"No model failed.{late}")
    shown = table(("Model", "Reason", "Folds"), rows, "Models that failed", text_columns=2)
    return join([shown, tag("p", late.strip(), class_="note")] if late else [shown])


def _importance(name: str, found: Mapping[str, Any], path: tuple[str | int, ...]) -> Markup:
    folds = found["folds"]["importance"]
    rows: list[Cells] = []
    for k, one in enumerate(found["importance"]):
        spread = folds.get(one["input"])
        line: Cells = [one["input"], number(one["log_loss"], 3, (*path, "importance", k, "log_loss"))]
        if spread is None:
            rows.append([*line, "–"])
            continue
        here = (*path, "folds", "importance", one["input"])
        low, mean, high = (number(spread[key], 3, (*here, key)) for key in ("low", "mean", "high"))
        rows.append([*line, join([mean, " (", low, " to ", high, ")"])])
    note = (
        "By how much the log-loss of rows held out of a bag grows when the input is shuffled among them: 0 is nothing. "
        "Inputs that tell the same share what they are worth. Folds: mean, smallest and largest over the outer folds."
    )
    header = ("Input", "Deployed", "Folds")
    return join([table(header, rows, f"Its importance, {name}", text_columns=1), tag("p", note, class_="note")])
