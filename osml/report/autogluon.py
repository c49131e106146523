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
            out.append(tag("p", f"{name}: no fit was finished.", class_="absent"))
            continue
        path = ("predictors", name, "autogluon")
        out += [tag("p", made_words(found)), _leaderboard(name, found, path)]
        out += [_failures(found), _importance(name, found, path)]
    return out


def made_words(found: Mapping[str, Any]) -> str:
    """How the models were made, in one paragraph without markup."""
    limit, deployed = found["time_limit"], found.get("deployed")
    bags = f"bagged over {plural(found['inner_folds'], 'inner fold')} of patients"
    if deployed is None:
        parts = [f"Not fitted to all patients. In the folds: {found['planned']} models ({found['presets']}), {bags}"]
    else:
        used = sum(bool(row["weight"]) for row in deployed["leaderboard"])
        again = ", then fitted once more to all patients" if deployed["refit"] else ""
        parts = [
            f"Deployed: {plural(used, 'model')} of {found['planned']} ({found['presets']}), {bags}{again}",
            f"{plural(found['columns'], 'column')} of {', '.join(found['inputs'])}",
        ]
    parts.append("no time limit" if limit is None else f"time limit of each fit {plural(limit, 'second')}")
    words = ""
    if deployed is not None:
        if found["encoders"]:
            parts.append("frozen encoders " + ", ".join(f"{i}: {model}" for i, model in found["encoders"].items()))
        parts += [f"{name} is not learnt ({why}), and keeps its share" for name, why in deployed["rare"].items()]
        words = f" {calibration_words(deployed['calibration'])}"
    return "; ".join(parts) + f".{words}" + (f" {NOT_TWICE}" if limit is not None else "")


def calibration_words(found: Mapping[str, Any]) -> str:
    """Whether its probabilities were recalibrated, and why not."""
    if found["kind"] == "none":
        return f"Not recalibrated: {found['reason']}."
    words = "intercept and slope" if found["kind"] == "platt" else "a temperature"
    return f"Recalibrated by {words}: inner log-loss {found['before']:.3f}, then {found['after']:.3f}."


def _leaderboard(name: str, found: Mapping[str, Any], path: tuple[str | int, ...]) -> Markup:
    folds, deployed = found["folds"], found.get("deployed", {}).get("leaderboard", [])
    at = {row["model"]: k for k, row in enumerate(deployed)}
    order = sorted({*folds["models"], *at}, key=lambda m: _first(folds["models"].get(m), deployed, at.get(m)))
    rows: list[Cells] = []
    for model in order:
        inside, here = folds["models"].get(model), (*path, "folds", "models", model)
        line: Cells = [model]
        if inside is None:
            line += ["–", "–", f"0 of {folds['counted']}"]
        else:
            line += [number(inside["log_loss"], 3, (*here, "log_loss")), _weight(inside["weight"], (*here, "weight"))]
            line.append(f"{inside['folds']} of {folds['counted']}")
        k = at.get(model)
        if k is None:
            line += ["–", "–"]
        else:
            own = (*path, "deployed", "leaderboard", k)
            line += [number(deployed[k]["log_loss"], 3, (*own, "log_loss"))]
            line += [_weight(deployed[k]["weight"], (*own, "weight"))]
        rows.append(line)
    header = ("Model", "Inner log-loss", "Weight", "Fitted in folds", "Deployed: inner log-loss", "Weight")
    note = (
        "AutoGluon's own scores, means over the folds and of the deployed fit: log-loss on the rows held out of its "
        "bags, lower is better. The ensemble's weights were chosen on the same rows, so its score is too good; the "
        "outer folds under Results are the evidence."
    )
    return join([table(header, rows, f"Its leaderboard, {name}", text_columns=1), tag("p", note, class_="note")])


def _first(inside: Mapping[str, Any] | None, deployed: list[Any], k: int | None) -> float:
    """What the leaderboard is sorted by: the mean over the folds, else the deployed fit's value."""
    return float(inside["log_loss"] if inside is not None else deployed[k or 0]["log_loss"])


def _weight(value: float | None, path: tuple[str | int, ...]) -> Markup:
    return Markup("all") if value is None else number(value, 2, path)


def _failures(found: Mapping[str, Any]) -> Markup:
    folds, deployed = found["folds"], found.get("deployed", {"failures": [], "not_reached": 0})
    rows: list[Cells] = [
        [one["model"], one["reason"], f"{one['folds']} of {folds['counted']} folds"] for one in folds["failed"]
    ]
    rows += [[one["model"], one["reason"], "deployed fit"] for one in deployed["failures"]]
    missed = folds["not_reached"] + deployed["not_reached"]
    late = f"{plural(missed, 'model')} over all fits were not reached in time." if missed else ""
    if not rows:
        return tag("p", f"No model failed. {late}".strip())
    shown = table(("Model", "Reason", "Where"), rows, "Models that failed", text_columns=3)
    return join([shown, tag("p", late, class_="note")] if late else [shown])


def _importance(name: str, found: Mapping[str, Any], path: tuple[str | int, ...]) -> Markup:
    folds = found["folds"]["importance"]
    deployed = {
        one["input"]: (k, one["log_loss"]) for k, one in enumerate(found.get("deployed", {}).get("importance", []))
    }
    mean = {item: folds[item]["mean"] if item in folds else deployed[item][1] for item in {*folds, *deployed}}
    rows: list[Cells] = []
    for item in sorted(mean, key=lambda one: -mean[one]):
        line: Cells = [item]
        if item in folds:
            here = (*path, "folds", "importance", item)
            low, middle, high = (number(folds[item][key], 3, (*here, key)) for key in ("low", "mean", "high"))
            line.append(join([middle, " (", low, " to ", high, ")"]))
        else:
            line.append("–")
        if item in deployed:
            k, value = deployed[item]
            line.append(number(value, 3, (*path, "deployed", "importance", k, "log_loss")))
        else:
            line.append("–")
        rows.append(line)
    note = (
        "By how much the log-loss of rows held out of a bag grows when the input is shuffled among them: 0 is nothing. "
        "Inputs that tell the same share what they are worth. Folds: mean, smallest and largest."
    )
    header = ("Input", "Folds", "Deployed")
    return join([table(header, rows, f"Its importance, {name}", text_columns=1), tag("p", note, class_="note")])
