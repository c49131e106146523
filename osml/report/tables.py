"""Tables of the report: those that the run wrote, and those made of metrics.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from osml.report.classes import LABELS
from osml.report.html import Markup, bullets, details, join, number, table, tag
from osml.report.run import Run, read_note, read_table

Cells = list[object]
PATIENT_CODES = ("OSML015",)  # their evidence names patients


def run_table(path: Path, caption: str, *, text_columns: int = 1) -> Markup | None:
    """A table of the run with its note, None where the run has none."""
    if not path.is_file():
        return None
    header, rows = read_table(path)
    used = [k for k, name in enumerate(header) if name or any(row[k] for row in rows)]
    keep = [k for k in used if header[k] != "Remark" or any(row[k] for row in rows)]
    shown = table(
        [header[k] for k in keep], [[row[k] for k in keep] for row in rows], caption, text_columns=text_columns
    )
    note = read_note(path)
    return join([shown, tag("p", note, class_="note") if note else "", _file(path)])


def _file(path: Path) -> Markup:
    return tag("p", "File: ", tag("code", f"tables/{path.name}"), class_="file")


def leaderboard(run: Run) -> Markup:
    """Held-out performance of every predictor, in the order of the schema; no predictor is crowned."""
    key = run.measure
    label = "Harrell's C" if run.survival else "AUC"
    header = ["Predictor", f"{label} (95 % interval)"]
    measures = [] if run.withheld else [("slope", "Calibration slope", 2), ("brier", "Brier", 3)]
    if not run.withheld and not run.survival:
        measures.append(("scaled_brier", "Scaled Brier", 3))
    header += [words for _, words, _ in measures] + ["Folds"]
    rows = []
    reasons: dict[str, None] = {}
    for name, facts in run.metrics["predictors"].items():
        found, path = facts["out_of_fold"], ("predictors", name, "out_of_fold")
        row: Cells = [name, _with_interval(found.get(key, found), (*path, key))]
        row += [number(found.get(k, {}).get("value"), digits, (*path, k, "value")) for k, _, digits in measures]
        row.append(f"{facts['folds']}" + (f", {facts['failed_folds']} failed" if facts["failed_folds"] else ""))
        rows.append(row)
        interval = found.get(key, {}).get("interval")
        if interval:
            reasons[f"Interval: {interval}."] = None
    caption = "Performance on patients whom the model had not seen"
    return join([table(header, rows, caption), *(tag("p", text, class_="note") for text in reasons)])


def _with_interval(entry: dict[str, Any], path: tuple[str, ...]) -> Markup:
    if entry.get("value") is None:
        return join([entry.get("reason", "not estimable")])
    parts: list[object] = [number(entry["value"], 2, (*path, "value"))]
    if entry.get("low") is not None:
        parts += [" (", number(entry["low"], 2, (*path, "low")), " to ", number(entry["high"], 2, (*path, "high")), ")"]
    else:
        parts.append(" (no interval)")
    return join(parts)


def horizons(run: Run) -> Markup | None:
    """Survival: AUC and Brier score at each horizon; None where there is nothing to show."""
    rows: list[Cells] = []
    for name, facts in run.metrics["predictors"].items():
        for k, at in enumerate(facts["out_of_fold"].get("horizons", ())):
            path = ("predictors", name, "out_of_fold", "horizons", k)
            row: Cells = [name, f"{at['horizon']:g} {getattr(run.outcome, 'unit', '')}s", at["at_risk"]]
            row += [
                number(at[key].get("value"), digits, (*path, key, "value"))
                for key, digits in (("auc", 2), ("brier", 3), ("scaled_brier", 3))
            ]
            rows.append(row)
    if not rows:
        return None
    header = ("Predictor", "Horizon", "At risk", "AUC", "Brier", "Scaled Brier")
    caption = "At each horizon, weighted for censoring; held-out predictions, no interval"
    return table(header, rows, caption, text_columns=2)


def optimism(run: Run) -> Markup | None:
    """Apparent values beside their bootstrap correction, marked as no evidence of performance."""
    rows: list[Cells] = []
    names = {"auc": "AUC", "c": "Harrell's C", "slope": "slope", "brier": "Brier", "r2": "Nagelkerke R²"}
    if run.withheld:
        names = {key: names[key] for key in ("auc", "c")}
    kinds: dict[str, None] = {}
    for name, facts in run.metrics["predictors"].items():
        apparent, corrected = facts.get("apparent", {}), facts.get("optimism_corrected", {})
        for key, words in names.items():
            if not isinstance(apparent.get(key), dict):
                continue
            path = ("predictors", name)
            row: Cells = [name, words, number(apparent[key].get("value"), 2, (*path, "apparent", key, "value"))]
            entry = corrected.get(key)
            row.append(_with_interval(entry, (*path, "optimism_corrected", key)) if entry else "–")
            rows.append(row)
            if entry and entry.get("interval"):
                kinds[f"Interval of the corrected {words}: {entry['interval']}."] = None
    if not rows:
        return None
    header = ("Predictor", "Measure", "Apparent", "Optimism-corrected")
    shown = table(header, rows, "Apparent and optimism-corrected values of the unshrunken model", text_columns=2)
    warning = (
        "Apparent values judge a model on the very patients it was fitted to. They are too good and no evidence of "
        "performance; their distance from the corrected value shows how much."
    )
    return details(
        "Optimism: how much the same patients flatter the model", tag("p", warning), shown,
        *(tag("p", text, class_="note") for text in kinds),
    )  # fmt: skip


def checks(run: Run) -> list[Markup]:
    """Every finding, refused and accepted ones first, with the reason that was given."""
    rows: list[Cells] = []
    counted: dict[str, int] = {}
    for c in run.findings:
        if c["code"] in PATIENT_CODES:
            counted[c["code"]] = counted.get(c["code"], 0) + 1
            if counted[c["code"]] > 1:
                continue
            number_found = sum(other["code"] == c["code"] for other in run.checks)
            evidence = f"found {number_found} times; the patients are named in cohort/checks.json"
        else:
            evidence = f"{c['subject']}: {c['evidence']}" if c["subject"] else c["evidence"]
        state = tag("strong", f"accepted: {c['accepted']}") if c["accepted"] else c.get("severity", "warn")
        rows.append([c["code"], c["title"], evidence, state])
    if not rows:
        return [tag("p", "No check found anything to report.")]
    return [table(("Code", "Check", "What was found", "State"), rows, "Checks of this study", text_columns=4)]


def comparisons(run: Run) -> Markup:
    """Differences between predictors with the correction that resampling needs."""
    found = run.metrics.get("comparisons", [])
    if not found:
        return tag("p", "No comparison was asked for (", tag("code", "report.compare"), " in the schema).")
    rows: list[Cells] = []
    for k, c in enumerate(found):
        path = ("comparisons", k)
        row: Cells = [f"{c['first']} − {c['second']}", _measure(c)]
        if "patients" in c:
            shown = join([_span(c["range"], (*path, "range")), f", range over {len(c['patients'])} patients"])
            row += [shown, "–", "–", c["reason"]]
        elif "p" in c:
            row += [
                join([number(c["difference"], 3, (*path, "difference")), " (", number(c["low"], 3, (*path, "low")),
                      " to ", number(c["high"], 3, (*path, "high")), ")"]),
                number(c["p"], 3, (*path, "p")), number(c["p_holm"], 3, (*path, "p_holm")), c["test"],
            ]  # fmt: skip
        else:
            row += [number(c.get("difference"), 3, (*path, "difference")), "–", "–", c.get("reason", "not tested")]
        rows.append(row)
    header = ("Pair", "Measure", "Difference (95 % interval)", "p", "p (Holm)", "Test or reason")
    note = (
        "Nadeau-Bengio: variance corrected for training sets that overlap between folds. Holm: corrected for the "
        "number of comparisons. A large p is no proof that two predictors are equally good."
    )
    return join([table(header, rows, "Comparisons between predictors", text_columns=2), tag("p", note, class_="note")])


def _measure(entry: dict[str, Any]) -> str:
    label = LABELS.get(entry["measure"], entry["measure"])
    return f"{label} (lower is better)" if entry.get("better") == "lower" else label


def _span(ends: list[float], path: tuple[str | int, ...]) -> Markup:
    return join([number(ends[0], 3, (*path, 0)), " to ", number(ends[1], 3, (*path, 1))])


def provenance(run: Run) -> Markup:
    """What one needs to do it again: versions, hashes, seed."""
    env, manifest = run.environment, run.manifest
    rows: list[Cells] = [
        ["Run", run.path.name],
        ["osml", env["osml"]],
        ["Python", f"{env['python']}, {env['system']}, {env['device']}"],
        ["Packages", ", ".join(f"{name} {version}" for name, version in env["packages"].items())],
        ["Seed", run.schema.validation.seed],
        ["Schema, SHA-256", tag("code", manifest["schema_sha256"])],
        ["Table, SHA-256", tag("code", run.summary["sha256"])],
        ["Table", f"{run.summary['table']}, {run.summary['rows']} rows"],
    ]
    altered = [
        f"{name}: {count} {rule}" for name, counts in run.summary["altered"].items() for rule, count in counts.items()
    ]
    shown = table(("Item", "Value"), rows, "Environment and provenance", text_columns=2)
    return join([shown, bullets([f"Values altered by a stated rule: {', '.join(altered)}"]) if altered else ""])
