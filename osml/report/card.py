"""The model card: one page of Markdown that travels with the model."""

from __future__ import annotations

import re
from typing import Any

from osml.report.autogluon import made_words
from osml.report.candidates import NAMES
from osml.report.feature_words import feature_words
from osml.report.run import Run
from osml.report.summary import RESEARCH, warnings
from osml.report.wording import counts_words, event_words, no_model, plural, split_words
from osml.schema.words import missing_words


def model_card(run: Run) -> str:
    """Markdown text; the same run gives the same bytes."""
    facts = run.facts
    lines = [f"# Model card: {plain(facts['title'])}", ""]
    lines += [f"> {plain(text)}" + "\n>" for text in warnings(run)] + [f"> {RESEARCH}", ""]
    lines += [
        "## Intended use", "",
        f"- Predicts: {plain(event_words(run))}",
        f"- When: {plain(str(facts['time_of_prediction']).replace('_', ' '))}",
        f"- For whom: {plain(facts['population'] or 'not stated')}",
        f"- Where and when they were treated: {plain(_place(run))}",
        f"- Decision it serves: {plain(_decision(run))}",
        "- Not for: treatment without a clinician's judgement; patients unlike those described here.", "",
        "## Training data", "",
        f"- {plain(counts_words(run))}; sampling: {run.schema.study.sampling}",
        f"- Left out: {plain(_left_out(run))}",
        f"- Missing values: {missing_words(run.schema)}", "",
        "## Performance", "",
        f"Judged by {plain(split_words(run))}: {plain(facts['validation'])}.", "",
    ]  # fmt: skip
    lines += [*_performance(run), *_choice(run)]
    lines += ["", "## Models", ""]
    for name, found in run.metrics["predictors"].items():
        lines.append(f"- {plain(name)}: {_model(found)}")
    lines += ["", "## Limitations", ""]
    lines += [f"- {plain(text)}" for text in _limitations(run)]
    lines += [
        "", "## Provenance", "",
        f"- osml {run.environment['osml']}, Python {run.environment['python']}, seed {run.schema.validation.seed}",
        f"- Schema SHA-256 {run.manifest['schema_sha256']}",
        f"- Table SHA-256 {run.summary['sha256']}",
        "- Full report: report/report.html", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _left_out(run: Run) -> str:
    return ", ".join(f"{k} {reason}" for reason, k in run.summary["excluded"].items()) or "nobody"


def _place(run: Run) -> str:
    return ", ".join(str(run.facts[key]) for key in ("centre", "period") if run.facts[key]) or "not stated"


def _decision(run: Run) -> str:
    decision = run.schema.decision
    if decision is None:
        return "no decision stated"
    low, high = (f"{100 * t:g}" for t in decision.thresholds)
    return f"{decision.action}, at risks from {low} to {high} %"


def _class_performance(run: Run) -> list[str]:
    """Targets with classes: over folds with the interval, or over patients with the range and the pooled value."""
    words = "macro-F1, range over patients | macro-F1, pooled (labels shuffled)" if run.alone else (
        "macro-F1 (95 %) | macro AUC"
    )  # fmt: skip
    lines = [f"| Predictor | {words} | accuracy |", "|---|---|---|---|"]
    notes: dict[str, None] = {}
    for name, facts in run.metrics["predictors"].items():
        found = facts["out_of_fold"]
        if "macro_f1" not in found:
            lines.append(f"| {plain(name)} | {plain(found['reason'])} | – | – |")
            continue
        if run.alone:
            spans = facts.get("patients", {}).get("range", {})
            pooled = found["pooled"]["macro_f1"]
            noise = pooled.get("permutation_mean")
            middle = _value(pooled, 2) + (f" ({noise:.2f})" if noise is not None else "")
            cells = [_span(spans.get("macro_f1")), middle, _span(spans.get("accuracy"))]
        else:
            first = found["macro_f1"]
            shown = _value(first, 2)
            if first.get("low") is not None:
                shown += f" ({first['low']:.2f} to {first['high']:.2f})"
                notes[f"Interval: {plain(first['interval'])}."] = None
            cells = [shown, _value(found["macro_auc"], 2), _value(found["accuracy"], 2)]
        lines.append(f"| {plain(name)} | {' | '.join(cells)} |")
    sentences = [
        f"- {plain(name)}: {plain(facts['ablation']['sentence'])}"
        for name, facts in run.metrics["predictors"].items()
        if "sentence" in facts.get("ablation", {})
    ]
    return [*lines, "", *notes, *sentences]


def _span(ends: list[float] | None) -> str:
    return "–" if ends is None else f"{ends[0]:.2f} to {ends[1]:.2f}"


def _performance(run: Run) -> list[str]:
    if run.classes:
        return _class_performance(run)
    label = "Harrell's C" if run.survival else "AUC"
    hidden = bool(run.withheld)
    lines = [f"| Predictor | {label} (95 %) | Calibration slope | Brier |", "|---|---|---|---|"]
    notes: dict[str, None] = {}
    for name, facts in run.metrics["predictors"].items():
        found = facts["out_of_fold"]
        entry = found.get(run.measure, found)
        if entry.get("value") is None:
            area = plain(entry.get("reason", "not estimable"))
        else:
            area = f"{entry['value']:.2f}"
            if entry.get("low") is not None:
                area += f" ({entry['low']:.2f} to {entry['high']:.2f})"
                notes[f"Interval: {plain(entry['interval'])}."] = None
        slope, brier = ("withheld" if hidden else _value(found.get(k, {}), d) for k, d in (("slope", 2), ("brier", 3)))
        lines.append(f"| {plain(name)} | {area} | {slope} | {brier} |")
    return [*lines, "", *notes]


def _choice(run: Run) -> list[str]:
    """The chosen predictor after the correction; the table above it is as measured."""
    found = run.metrics.get("selection", {})
    if "winner" not in found:
        return []
    parts = []
    for key in (found["measures"][0], "log_loss"):
        entry, digits = found["corrected"][key], 3 if key == "log_loss" else 2
        if entry.get("value") is not None:
            ends = "" if entry.get("low") is None else f" ({entry['low']:.{digits}f} to {entry['high']:.{digits}f})"
            parts.append(f"{NAMES[key]} {_value(entry, digits)}{ends}")
    shown = ", ".join(parts) or "not estimable"
    chosen = f"{plain(found['winner'])} was chosen among {len(found['table'])} predictors"
    return ["", f"{chosen}; corrected for the choice: {shown}. The table is as measured, not corrected."]


def _value(entry: dict[str, Any], digits: int) -> str:
    return "–" if entry.get("value") is None else f"{entry['value']:.{digits}f}"


def _model(found: dict[str, Any]) -> str:
    if "final" in found:
        return f"not fitted to all patients ({plain(no_model(found))})"
    if "network" in found:
        return _network(found["network"])
    if "boosting" in found:
        return _boosting(found["boosting"], found.get("search"))
    if "autogluon" in found:
        return f"AutoGluon. {plain(made_words(found['autogluon']))} Its files are pickles, loaded with --trust only"
    if "stack" in found:
        weights = ", ".join(f"{plain(name)} {weight:.2f}" for name, weight in found["stack"]["weights"].items())
        return f"stack of {weights}"
    kept = ", ".join(plain(feature_words(name)) for name in found.get("selected", {})) or "none"
    parts = [f"{'features' if 'radscore' in found else 'inputs'} kept: {kept}"]
    if "radscore" in found:
        parts.insert(0, f"Rad-score ({found['radscore']['score']}) of the region {plain(found['radscore']['region'])}")
    if "candidate_parameters" in found:
        parts.append(f"{found['candidate_parameters']} candidate parameters")
    shrinkage = found.get("shrinkage")
    if shrinkage:
        if shrinkage["kind"] == "none":
            parts.append("not shrunken")
        else:
            parts.append(
                f"shrinkage {shrinkage['kind']}, factor {shrinkage['slope']:.2f} ({plain(shrinkage['source'])})"
            )
    return "; ".join(parts)


def _network(found: dict[str, Any]) -> str:
    encoders = ", ".join(f"{plain(i)} by {plain(e['model'])}, {e['tune']}" for i, e in found["encoders"].items())
    parts = [f"network of {', '.join(plain(i) for i in found['inputs'])}"]
    if encoders:
        parts.append(f"encoders: {encoders}")
    parts.append(f"{plural(found['seeds'], 'seed')}, epochs {', '.join(map(str, found['epochs']))}")
    reason = f" ({plain(found['calibration']['reason'])})" if found["calibration"]["reason"] else ""
    parts.append(f"calibrated: {found['calibration']['kind']}{reason}")
    if found.get("abstain") is not None:
        parts.append(f"may leave units undecided; accepted share of wrong sets {found['abstain']:g}")
    return "; ".join(parts)


def _boosting(found: dict[str, Any], search: dict[str, Any] | None) -> str:
    settings = found["settings"]
    parts = [
        f"boosted trees of {', '.join(plain(i) for i in found['inputs'])}",
        f"{plural(found['rounds'], 'round')} of at most {settings['leaves']} leaves",
        f"{plural(found['columns'], 'column')}, {found['used']} of them looked at",
    ]
    if found["encoders"]:
        encoders = ", ".join(f"{plain(i)} by {plain(model)}" for i, model in found["encoders"].items())
        parts.append(f"frozen encoders: {encoders}")
    reason = f" ({plain(found['calibration']['reason'])})" if found["calibration"]["reason"] else ""
    parts.append(f"calibrated: {found['calibration']['kind']}{reason}")
    if search is not None:
        parts.append(f"settings searched for: {plural(search['trials'], 'trial')} in each training set")
    return "; ".join(parts)


def _limitations(run: Run) -> list[str]:
    out = []
    if "internally" in run.facts["validation"]:
        out.append("No external validation: performance elsewhere or later is not known.")
    for c in run.findings:
        if c["code"] == "OSML015":  # names patients; the report counts them
            continue
        reason = f" Accepted: {c['accepted']}." if c["accepted"] else ""
        subject = f"{c['subject']}: " if c["subject"] else ""
        out.append(f"{c['code']} {c['title']}: {subject}{c['evidence']}.{reason}")
    twins = sum(c["code"] == "OSML015" for c in run.checks)
    if twins:
        out.append(f"OSML015: {plural(twins, 'pair')} of patients share all their values.")
    return out or ["None was found by the checks; that is not the same as none."]


def plain(text: object) -> str:
    """One line in which nothing of a label is Markdown or HTML."""
    line = " ".join(str(text).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#])", r"\\\1", line)
