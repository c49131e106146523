"""Sentences of the summary for targets with classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from osml.report.classes import capital, span
from osml.report.html import Markup, join, number, tag
from osml.report.run import Run
from osml.report.wording import plural

FEW_PATIENTS = 20


def class_warnings(run: Run) -> list[str]:
    """What must stand first: the sample's class shares, and how few the patients are."""
    out = []
    if run.schema.study.sampling != "cohort":
        kind = str(run.schema.study.sampling).replace("_", "-")
        out.append(
            f"Sampling is {kind}: class shares here are not prevalences. Accuracy, precision and F1 hold for this mix "
            "of classes only; log loss, Brier score and calibration are not computed."
        )
    patients = len(run.cohort.patient_ids)
    if patients < FEW_PATIENTS:
        out.append(f"{plural(patients, 'patient')}: results are values and their range. No interval, no test.")
    return out


def class_performance(run: Run, name: str) -> Markup:
    """How good one predictor is, in words."""
    facts = run.metrics["predictors"][name]
    found, path = facts["out_of_fold"], ("predictors", name, "out_of_fold")
    if "macro_f1" not in found:
        return tag("p", tag("strong", name), f": {found['reason']}.")
    parts = _alone(run, name, facts) if run.alone else _over_folds(run, found, path)
    sentence = facts.get("ablation", {}).get("sentence")
    return tag("p", tag("strong", name), ": ", *parts, f" {sentence}" if sentence else "")


def _alone(run: Run, name: str, facts: Any) -> list[object]:
    spans, path = facts.get("patients", {}).get("range"), ("predictors", name, "patients", "range")
    parts: list[object] = []
    if spans and "macro_f1" in spans:
        words = [join([f"{label} ", span(spans[key], (*path, key))]) for key, label in
                 (("macro_f1", "macro-F1"), ("accuracy", "accuracy"))]  # fmt: skip
        patients = plural(len(run.cohort.patient_ids), "patient")
        parts += [words[0], " and ", words[1], f" over {patients}, each predicted by a model that had not seen them. "]
    pooled, place = (
        facts["out_of_fold"]["pooled"]["macro_f1"],
        ("predictors", name, "out_of_fold", "pooled", "macro_f1"),
    )
    if pooled.get("value") is None:
        return [*parts, f"No pooled macro-F1: {pooled.get('reason', 'not estimable')}."]
    parts += ["Pooled, secondary: macro-F1 ", number(pooled["value"], 2, (*place, "value"))]
    if pooled.get("low") is not None:
        low, high = (number(pooled[key], 2, (*place, key)) for key in ("low", "high"))
        parts += [", 95 % interval ", low, " to ", high, f" ({pooled['interval']})"]
    if pooled.get("permutation_mean") is not None:
        parts += [", where shuffled labels give ", number(pooled["permutation_mean"], 2, (*place, "permutation_mean"))]
        if pooled["value"] <= pooled["permutation_mean"]:
            parts.append(": pooled, it is no better than noise")
    return [*parts, ".", _rare(facts.get("patients", {}).get("table", ()))]


def _rare(table: Sequence[Mapping[str, Any]]) -> str:
    """Which classes a left-out patient leaves almost without training rows, "" where none."""
    rare = [f"{c} without {row['patient']}" for row in table for c in row["few_in_training"] if row["classes"][c]]
    if not rare:
        return ""
    return f" Fewer than 10 training rows of {', of '.join(rare)}: those results say little about these classes."


def _over_folds(run: Run, found: Any, path: tuple[str | int, ...]) -> list[object]:
    parts: list[object] = []
    for key, label in (("macro_f1", "macro-F1"), ("accuracy", "accuracy"), ("macro_auc", "macro AUC")):
        entry, here = found[key], (*path, key)
        parts.append(", " if parts else "")
        if entry.get("value") is None:
            parts.append(f"no {label} ({entry['reason']})")
            continue
        parts += [f"{label} ", number(entry["value"], 2, (*here, "value"))]
        if entry.get("low") is not None:
            low, high = (number(entry[end], 2, (*here, end)) for end in ("low", "high"))
            parts += [" (95 % interval ", low, " to ", high, ")"]
    entry = found["macro_f1"]
    if entry.get("interval"):
        parts.append(f". Intervals: {entry['interval']}")
    elif entry.get("value") is not None and entry.get("reason"):
        parts.append(f" ({entry['reason']})")
    known = {c: e["f1"]["value"] for c, e in found["per_class"].items() if e.get("f1", {}).get("value") is not None}
    if len(known) > 1:
        worst = min(known, key=lambda c: known[c])
        parts += [f". {capital('hardest class')}: {worst}, F1 ",
                  number(known[worst], 2, (*path, "per_class", worst, "f1", "value"))]  # fmt: skip
    return [*parts, "."]
