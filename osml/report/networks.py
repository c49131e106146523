"""What belongs to networks only: how they were made, fewer inputs, each seed, missing inputs, gates, undecided."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from osml.report.boosting import search_table
from osml.report.classes import DIGITS, LABELS, Cells, Path, capital, span, value
from osml.report.exhibit import Exhibit
from osml.report.html import Markup, join, number, table, tag
from osml.report.run import Run
from osml.schema.model import NetworkPredictor, StackPredictor

MINUS = "\N{MINUS SIGN}"


def networks(run: Run) -> list[str]:
    """Networks of the study, those that failed included."""
    blocks = run.schema.predictors
    return [name for name in run.metrics["predictors"] if isinstance(blocks[name], NetworkPredictor)]


def stacks(run: Run) -> list[str]:
    """Stacks of the study."""
    blocks = run.schema.predictors
    return [name for name in run.metrics["predictors"] if isinstance(blocks[name], StackPredictor)]


def section(run: Run, gates: Sequence[Exhibit], figures: Callable[[Sequence[Exhibit]], Markup]) -> list[object]:
    """Everything of the section, network by network."""
    out: list[object] = [_made(run)]
    for name in networks(run):
        facts = run.metrics["predictors"][name]
        if facts["failed_folds"]:
            out.append(tag("p", f"{name}: {facts['out_of_fold']['reason']}.", class_="absent"))
            continue
        parts = [_ablation(name, facts), _seeds(name, facts), _patterns(run, name, facts), _undecided(name, facts)]
        out += [tag("h3", name), *(part for part in parts if part is not None)]
        out += [figures([e for e in gates if e.name == f"gates_{name}"])]
    searched = search_table(run, networks(run))
    return [*out, searched] if searched is not None else out


def _made(run: Run) -> Markup:
    rows: list[Cells] = []
    for name in networks(run):
        block = run.schema.predictors[name]
        assert isinstance(block, NetworkPredictor)
        facts = run.metrics["predictors"][name].get("network", {})
        asked = {i: {"model": e.model, "tune": e.tune} for i, e in block.encoders.items()}
        used = facts.get("encoders", asked)
        encoders = "; ".join(f"{i}: {e['model']}, {e['tune']}" for i, e in used.items()) or "none"
        epochs = facts.get("epochs", ())
        length = (
            "–" if not epochs else f"{min(epochs)}" if min(epochs) == max(epochs) else f"{min(epochs)} to {max(epochs)}"
        )
        calibration = facts.get("calibration", {})
        words = str(calibration.get("kind", "–"))
        words += f" ({calibration['reason']})" if calibration.get("reason") else ""
        fusion = block.fusion if len(block.inputs) > 1 else "one input"
        rows.append([name, ", ".join(block.inputs), encoders, fusion, _head(run, block), block.seeds, length, words])
    for name in stacks(run):
        weights = run.metrics["predictors"][name].get("stack", {}).get("weights", {})
        inside = ", ".join(f"{n} {w:.2f}" for n, w in weights.items()) or ", ".join(run.schema.predictors[name].inputs)
        block = run.schema.predictors[name]
        assert isinstance(block, StackPredictor)
        rows.append([name, inside, "none", f"stack, {block.method}", "–", None, "–", "–"])
    header = ("Predictor", "Inputs", "Encoders", "Fusion", "Head", "Seeds", "Epochs", "Calibrated")
    return table(header, rows, "How they were made", text_columns=5)


def _head(run: Run, block: NetworkPredictor) -> str:
    target = run.schema.target.kind
    default = {"hierarchy": "tree", "survival": "cox"}.get(target, "flat")
    return block.head or default


def _ablation(name: str, facts: Mapping[str, Any]) -> Markup:
    found, path = facts.get("ablation", {"reason": "none was recorded"}), ("predictors", name, "ablation")
    if "subsets" not in found:
        return tag("p", f"No comparison with fewer inputs: {found['reason']}.", class_="note")
    keys = list(found["full"]["measures"])
    key = found["decides"]
    rows: list[Cells] = [
        [
            tag("strong", "all: " + " + ".join(found["full"]["inputs"])),
            *(_short(found["full"]["measures"][k], (*path, "full", "measures", k), k) for k in keys), "–",
        ]
    ]  # fmt: skip
    for k, one in enumerate(found["subsets"]):
        words = " + ".join(one["inputs"])
        if "measures" not in one:
            rows.append([words, *[None] * len(keys), one["reason"]])
            continue
        here = (*path, "subsets", k)
        cells = [_short(one["measures"][m], (*here, "measures", m), m) for m in keys]
        rows.append([words, *cells, _difference(one["difference"], (*here, "difference"), key)])
    header = ["Inputs", *(capital(LABELS[k]) for k in keys), f"All − these, {LABELS[key]}"]
    first: Mapping[str, Any] = next((s["difference"][key] for s in found["subsets"] if "difference" in s), {})
    note = "The same network trained with fewer inputs, on the same folds."
    if "interval" in first:
        note += f" Interval: {first['interval']}."
    elif "reason" in first:
        note += f" {capital(first['reason'])}; ranges are of the differences in each patient."
    return join(
        [
            tag("p", tag("strong", found["sentence"])),
            table(header, rows, f"What each input adds, {name}"),
            tag("p", note, class_="note"),
        ]
    )


def _short(entry: Mapping[str, Any], path: Path, key: str) -> Markup:
    if entry.get("value") is None:
        return Markup("–")
    return value(entry, path, DIGITS.get(key, 2))


def _difference(found: Mapping[str, Any], path: Path, key: str) -> Markup:
    entry = found[key]
    if entry.get("value") is None:
        return join([entry.get("reason", "not estimable")])
    parts: list[object] = [value(entry, (*path, key))]
    people = found.get("patients")
    if people:
        n = len(people["table"])
        parts += [f"; {n} patients: ", span(people["range"], (*path, "patients", "range"))]
    return join(parts)


def _seeds(name: str, facts: Mapping[str, Any]) -> Markup:
    found, path = facts.get("seeds", {"reason": "none was recorded"}), ("predictors", name, "seeds", "measures")
    if "measures" not in found:
        return tag("p", f"Seeds: {found['reason']}.", class_="note")
    rows: list[Cells] = []
    for key, entry in found["measures"].items():
        here, digits = (*path, key), DIGITS.get(key, 2)
        if "values" not in entry:
            rows.append([capital(LABELS[key]), *["–"] * found["seeds"], entry.get("reason", "not estimable")])
            continue
        cells = [number(v, digits, (*here, "values", k)) for k, v in enumerate(entry["values"])]
        rows.append([capital(LABELS[key]), *cells, span(entry["range"], (*here, "range"), digits)])
    header = ["Measure", *(f"Seed {k + 1}" for k in range(found["seeds"])), "Range"]
    words = f"{capital(found['words'])}; {found['basis']}. The predictor combines these networks."
    return join([table(header, rows, f"Each seed alone, {name}"), tag("p", words, class_="note")])


def _patterns(run: Run, name: str, facts: Mapping[str, Any]) -> Markup:
    found, path = facts.get("patterns", {"reason": "none was recorded"}), ("predictors", name, "patterns", "patterns")
    if "patterns" not in found:
        return tag("p", f"Patterns of missing inputs: {found['reason']}.", class_="note")
    keys = list(found["patterns"][0]["measures"])
    rows: list[Cells] = []
    reasons: dict[str, None] = {}
    for k, one in enumerate(found["patterns"]):
        words = "nothing" if not one["missing"] else ", ".join(one["missing"])
        cells = [_short(one["measures"][m], (*path, k, "measures", m), m) for m in keys]
        counts = [one["units"]] if run.units == "patients" else [one["units"], one["patients"]]
        rows.append([words, *counts, *cells])
        for entry in one["measures"].values():
            if entry.get("value") is None:
                reasons[entry.get("reason", "not estimable")] = None
    units = ["Patients"] if run.units == "patients" else ["Rows", "Patients"]
    header = ["Missing", *units, *(capital(LABELS[m]) for m in keys)]
    note = "Pooled over the folds of a repeat. Units of two patterns differ in more than the input that is missing."
    note += f" –: {'; '.join(reasons)}." if reasons else ""
    shown = table(header, rows, f"By what was missing, {name}")
    return join([shown, tag("p", note, class_="note")])


def _undecided(name: str, facts: Mapping[str, Any]) -> Markup | None:
    found, path = facts.get("sets"), ("predictors", name, "sets")
    if found is None:
        return None
    if "reason" in found:
        return tag("p", f"Prediction sets: {found['reason']}.", class_="note")
    parts = [
        "Prediction sets: the true class was in the set for ", number(100 * found["coverage"], 1),
        f" % of units, {100 * (1 - found['promised']):.0f} % being promised; ", number(100 * found["undecided"], 1),
        " % were left undecided.",
    ]  # fmt: skip
    assert path
    return tag("p", *parts)
