"""What `osml fit` prints at the end: honest and apparent side by side, then where the files are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from osml.study.fit import FitResult
from osml.study.terminal_choice import choice_lines

Say = Callable[[str], None]


def show(result: FitResult, say: Say) -> None:
    """Leaderboard, notes and paths of a finished run."""
    metrics = result.metrics
    if metrics["target"] == "region":
        from osml.study.slides.terminal import show as show_regions

        show_regions(metrics, result.run.path, say)
        return
    width = max(12, *(len(p) for p in metrics["predictors"])) + 2
    say("")
    if metrics["target"] in ("multiclass", "hierarchy"):
        _board_of_classes(metrics, width, say)
        key, name = "macro_f1", "macro-F1"
    else:
        key, name = ("auc", "AUC") if metrics["target"] == "binary" else ("c", "Harrell C")
        _board(metrics, key, name, width, say)
    for line in choice_lines(metrics):
        say(line)
    for entry in metrics.get("comparisons", ()):
        say(_comparison(entry, name))
    for predictor, facts in metrics["predictors"].items():
        if "sentence" in facts.get("ablation", {}):
            say(f"ablation  {predictor}: {facts['ablation']['sentence']}")
    for predictor, facts in metrics["predictors"].items():
        decision = facts.get("out_of_fold", {}).get("decision", {})
        if "curve" in decision:
            say(_decision(predictor, decision))
    for predictor, facts in metrics["predictors"].items():
        sheet = facts.get("nomogram")
        if sheet is None or (not sheet["drawn"] and {"network", "boosting", "autogluon"} & facts.keys()):
            continue
        where = str(result.run.path / sheet["pdf"]) if sheet["drawn"] else f"not drawn: {sheet['reason']}"
        say(f"nomogram  {predictor}: {where}")
    for code, reason in metrics["accepted"].items():
        say(f"accepted  {code}: {reason}")
    if metrics["synthetic"]:
        say(f"SYNTHETIC {metrics['synthetic']}")
    say(f"run       {result.run.path}")


def _board_of_classes(metrics: Mapping[str, Any], width: int, say: Say) -> None:
    """Macro-F1, accuracy and mean AUC; leaving one patient out, the range over patients first."""
    alone = metrics["split"]["kind"] == "leave_one_patient_out"
    first = "by patient" if alone else "interval"
    say(f"{'':{width}}{'macro-F1':>8}  {first:>13}  {'accuracy':>8}  {'macro-AUC':>9}  {'apparent F1':>11}  folds")
    for predictor, facts in metrics["predictors"].items():
        honest = facts.get("out_of_fold", {})
        values = honest.get("pooled", {}) if alone else honest
        spread = _interval(values.get("macro_f1", {}))
        if alone:
            found = [row["macro_f1"] for row in facts.get("patients", {}).get("table", ()) if row.get("macro_f1")]
            spread = f"{min(found):.2f} to {max(found):.2f}" if found else "–"
        say(
            f"{predictor:{width}}{_two(_value(values, 'macro_f1')):>8}  {spread:>13}  "
            f"{_two(_value(values, 'accuracy')):>8}  {_two(_value(values, 'macro_auc')):>9}  "
            f"{_two(_value(facts.get('apparent', {}), 'macro_f1')):>11}  "
            f"{facts['folds']}/{facts['folds'] + facts['failed_folds']}"
        )
        if "reason" in honest:
            say(f"  {honest['reason']}")
        if "failed" in facts.get("final", {}):
            say(f"  no final model: {facts['final']['failed']}")
    if alone:
        noise = [f["out_of_fold"]["pooled"]["macro_f1"].get("permutation_mean") for f in metrics["predictors"].values()
                 if "pooled" in f.get("out_of_fold", {})]  # fmt: skip
        told = ", ".join(_two(value) for value in noise)
        say(f"pooled over patients, each fold on its own scale; shuffled labels give macro-F1 {told}")


def _board(metrics: Mapping[str, Any], key: str, name: str, width: int, say: Say) -> None:
    say(
        f"{'':{width}}{name:>6}  {'interval':>13}  {'slope':>6}  {'Brier':>6}  {'apparent':>8}  {'corrected':>9}  folds"
    )
    for predictor, facts in metrics["predictors"].items():
        honest = facts.get("out_of_fold", {})
        area = honest.get(key, {})
        folds = f"{facts['folds']}/{facts['folds'] + facts['failed_folds']}"
        say(
            f"{predictor:{width}}{_two(area.get('value')):>6}  {_interval(area):>13}  "
            f"{_two(_value(honest, 'slope')):>6}  "
            f"{_three(_value(honest, 'brier')):>6}  {_two(_value(facts.get('apparent', {}), key)):>8}  "
            f"{_two(_value(facts.get('optimism_corrected', {}), key)):>9}  {folds:>5}"
        )
        if "reason" in honest:
            say(f"  {honest['reason']}")
        if "pooled" in area:
            null = f"{_two(area['permutation_mean'])} over {area['permutations']} permutations"
            say(f"  pooled {name} {_two(area['pooled'])} beside {null}: {area['note']}")
        if "failed" in facts.get("final", {}):
            say(f"  no final model: {facts['final']['failed']}")
    kinds = {
        f["out_of_fold"].get(key, {}).get("interval") for f in metrics["predictors"].values() if "out_of_fold" in f
    }
    for kind in sorted(k for k in kinds if k):
        say(f"interval: {kind}")


def _comparison(entry: Mapping[str, Any], name: str) -> str:
    pair = f"compare   {entry['first']} - {entry['second']}: "
    if "p" not in entry:
        return pair + str(entry["reason"])
    p = f"p = {entry['p_holm']:.2g} (Holm)"
    return (
        f"{pair}{name} {entry['difference']:+.3f} ({entry['low']:+.3f} to {entry['high']:+.3f}), {p}, {entry['test']}"
    )


def _decision(predictor: str, decision: Mapping[str, Any]) -> str:
    """Net benefit against the better of acting on all and on none, at the ends of the stated range."""
    words = []
    for point in (decision["curve"][0], decision["curve"][-1]):
        best = max(point["treat_all"], 0.0)
        model = "–" if point["model"] is None else f"{point['model']:+.3f}"
        words.append(f"at {point['threshold']:g}: {model} (best default {best:+.3f})")
    return f"decision  {predictor}: net benefit {', '.join(words)}"


def _value(metrics: Mapping[str, Any], key: str) -> float | None:
    entry = metrics.get(key)
    return entry.get("value") if isinstance(entry, Mapping) else None


def _two(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _three(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _interval(entry: Mapping[str, Any]) -> str:
    if entry.get("low") is None or entry.get("high") is None:
        return "–"
    return f"{entry['low']:.2f}–{entry['high']:.2f}"
