"""Tables of targets with classes: patients first where a fold is one patient, then classes, the tree, noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from osml.files import write_csv
from osml.report.html import Markup, details, join, number, table, tag
from osml.report.run import Run

Cells = list[object]
Path = tuple[str | int, ...]
LABELS = {
    "macro_f1": "macro-F1", "macro_auc": "macro AUC", "accuracy": "accuracy", "balanced_accuracy": "balanced accuracy",
    "weighted_f1": "weighted F1", "weighted_auc": "weighted AUC", "macro_precision": "macro precision",
    "log_loss": "log loss", "brier": "Brier", "hierarchical_f1": "hierarchical F1", "auc": "AUC", "f1": "F1",
    "precision": "precision", "recall": "recall", "sensitivity_at_90": "sens. at 90 % spec.",
    "specificity_at_90": "spec. at 90 % sens.", "c": "Harrell's C",
}  # fmt: skip
DIGITS = {"log_loss": 3, "brier": 3}
OVERALL = ("macro_f1", "weighted_f1", "accuracy", "balanced_accuracy", "macro_auc", "weighted_auc", "log_loss", "brier")
EACH = ("auc", "f1", "precision", "recall", "sensitivity_at_90", "specificity_at_90")
SHOWN_PATIENTS = 20


def capital(words: str) -> str:
    """With a capital letter, abbreviations as they are."""
    return words[:1].upper() + words[1:]


def value(entry: Mapping[str, Any] | None, path: Path, digits: int = 2) -> Markup:
    """A metric with its interval, or the reason why it has no value."""
    if entry is None:
        return Markup("–")
    if entry.get("value") is None:
        return join([entry.get("reason", "not estimable")])
    parts: list[object] = [number(entry["value"], digits, (*path, "value"))]
    if entry.get("low") is not None:
        low, high = (number(entry[key], digits, (*path, key)) for key in ("low", "high"))
        parts += [" (", low, " to ", high, ")"]
    return join(parts)


def span(entry: Sequence[float] | None, path: Path, digits: int = 2) -> Markup:
    """Smallest and largest value."""
    if entry is None:
        return Markup("–")
    return join([number(entry[0], digits, (*path, 0)), " to ", number(entry[1], digits, (*path, 1))])


def ranked(run: Run) -> dict[str, Mapping[str, Any]]:
    """Predictors all of whose folds finished, with their facts."""
    return {name: run.metrics["predictors"][name] for name in run.held_out}


def leaderboard(run: Run) -> Markup:
    """Every predictor in the order of the schema: over patients where each fold is one, else over folds."""
    return _by_patients(run) if run.alone else _by_folds(run)


def _failed(name: str, facts: Mapping[str, Any], columns: int) -> Cells:
    return [name, facts["out_of_fold"]["reason"], *[None] * (columns - 2)]


def _folds(facts: Mapping[str, Any]) -> str:
    return f"{facts['folds']}" + (f", {facts['failed_folds']} failed" if facts["failed_folds"] else "")


def _by_folds(run: Run) -> Markup:
    keys = ("macro_f1", "macro_auc", "accuracy", "log_loss")
    rows: list[Cells] = []
    kinds: dict[str, None] = {}
    for name, facts in run.metrics["predictors"].items():
        found, path = facts["out_of_fold"], ("predictors", name, "out_of_fold")
        if "macro_f1" not in found:
            rows.append(_failed(name, facts, len(keys) + 2))
            continue
        rows.append([name, *(value(found[k], (*path, k), DIGITS.get(k, 2)) for k in keys), _folds(facts)])
        for key in keys:
            if "interval" in found[key]:
                kinds[f"Interval: {found[key]['interval']}."] = None
            elif found[key].get("value") is not None and "reason" in found[key]:
                kinds[f"{capital(found[key]['reason'])}."] = None
    header = ["Predictor", *(capital(LABELS[k]) for k in keys), "Folds"]
    caption = "Performance on patients whom the model had not seen"
    notes = [tag("p", text, class_="note") for text in kinds]
    return join([table(header, rows, caption), *notes, _lost_classes(run)])


def _lost_classes(run: Run) -> Markup:
    lost = {
        name: found["macro_f1"]["not_estimable"]
        for name, facts in ranked(run).items()
        if (found := facts["out_of_fold"])["macro_f1"].get("not_estimable")
    }
    if not lost:
        return Markup("")
    most = max(lost.values())
    return tag(
        "p",
        f"In {most} folds a class had no test unit: they have no mean over classes and are left out of macro values.",
        class_="note",
    )


def _by_patients(run: Run) -> Markup:
    header = ["Predictor", "Macro-F1, range over patients", "Accuracy, range over patients", "Macro-F1, pooled",
              "Labels shuffled", "Training shares", "Folds"]  # fmt: skip
    rows: list[Cells] = []
    for name, facts in run.metrics["predictors"].items():
        if "macro_f1" not in facts["out_of_fold"]:
            rows.append(_failed(name, facts, len(header)))
            continue
        people, path = facts.get("patients", {}), ("predictors", name)
        spans = people.get("range", {})
        row: Cells = [name]
        row += [span(spans.get(key), (*path, "patients", "range", key)) for key in ("macro_f1", "accuracy")]
        pooled, place = facts["out_of_fold"]["pooled"]["macro_f1"], (*path, "out_of_fold", "pooled", "macro_f1")
        row.append(value(pooled, place))
        row += [number(pooled.get(k), 2, (*place, k)) for k in ("permutation_mean", "training_shares")]
        rows.append([*row, _folds(facts)])
    caption = "Performance on patients whom the model had not seen: one patient at a time, then pooled"
    few = len(run.cohort.patient_ids)
    note = (
        f"{few} patients: values and their range; a pooled value counts rows, not patients. Shuffled: "
        "the same predictions with the labels of all rows permuted, nothing fitted again. Training shares: every row "
        "gets the class shares of the other patients."
    )
    return join([table(header, rows, caption), tag("p", note, class_="note")])


def patients(run: Run) -> list[Markup]:
    """One table per predictor: each patient's own rows; patients are numbered, not named."""
    out: list[Markup] = []
    for name, facts in ranked(run).items():
        found = facts.get("patients", {"reason": "not recorded"})
        if "table" not in found:
            return [tag("p", f"No table of patients: {found['reason']}.", class_="note")]
        shown = _patient_table(run, name, found)
        first = run.alone and len(found["table"]) <= SHOWN_PATIENTS
        out.append(shown if first else details(f"Patient by patient, {name}", shown))
    return out


def _patient_table(run: Run, name: str, found: Mapping[str, Any]) -> Markup:
    classes, path = run.classes, ("predictors", name, "patients")
    keys = [k for k in ("macro_f1", "accuracy", "hierarchical_f1", "log_loss") if k in found["range"]]
    header: Cells = ["Patient", "Rows: " + " / ".join(classes)]
    header += [capital(LABELS[k]) for k in keys] + [f"AUC {c}" for c in classes] + ["Few in training"]
    rows: list[Cells] = []
    for k, entry in enumerate(found["table"]):
        here = (*path, "table", k)
        counts = " / ".join(str(entry["classes"][c]) for c in classes)
        counts += f" + {entry['partial']} partial" if entry["partial"] else ""
        row: Cells = [capital(entry["patient"]).replace(" ", "\N{NO-BREAK SPACE}"), counts]
        row += [number(entry.get(m), DIGITS.get(m, 2), (*here, m)) for m in keys]
        row += [number(entry["auc"][c], 2, (*here, "auc", c)) for c in classes]
        few = ", ".join(f"{c} ({entry['training'][c]})" for c in entry["few_in_training"])
        rows.append([*row, few or "–"])
    spans: Cells = [span(found["range"][m], (*path, "range", m), DIGITS.get(m, 2)) for m in keys]
    rows.append([tag("strong", "Range"), "", *spans, *[""] * (len(classes) + 1)])
    caption = f"Patient by patient, {name}: each predicted by models fitted without that patient"
    note = (
        "Macro-F1: mean over the classes that the patient has. No AUC (–): the patient has no row of the class or of "
        "the others. Few in training: classes with fewer than 10 rows in the other patients (rows); results for them "
        "say little. Patients are numbered in the order of the table."
    )
    return join([table(header, rows, caption, text_columns=2), tag("p", note, class_="note")])


def per_class(run: Run) -> list[Markup]:
    """Each class against the rest, and the decisions of the tree, per predictor."""
    out = []
    for name, facts in ranked(run).items():
        found, path = facts["out_of_fold"], ("predictors", name, "out_of_fold")
        rows: list[Cells] = [
            [
                c,
                found["per_class_n"][c],
                *(_cell(found["per_class"][c].get(k), (*path, "per_class", c, k)) for k in EACH),
            ]
            for c in found["classes"]
        ]
        header = ["Class", "n", *(capital(LABELS[k]) for k in EACH)]
        parts: list[object] = [table(header, rows, f"Each class against the rest, {name}"), _basis(found)]
        if "tree" in found:
            parts += _tree(found, path, name)
        parts.append(_patient_means(found, path, name))
        out.append(join(parts))
    return out


def _cell(entry: Mapping[str, Any] | None, path: Path) -> Markup:
    """A number where there is one; the reason only in words that fit a cell."""
    if entry is None or entry.get("value") is None:
        return Markup("–")
    return value(entry, path)


def _basis(found: Mapping[str, Any]) -> Markup:
    words = f"Values: {found['basis']}."
    first = next(iter(found["per_class"].values()))
    entry = first.get("f1", {})
    if "interval" in entry:
        words += f" Intervals: {entry['interval']}."
    elif "reason" in entry:
        words += f" {capital(entry['reason'])}."
    gone = [c for c, entries in found["per_class"].items() if entries.get("auc", {}).get("value") is None]
    if gone:
        words += f" –: not estimable for {', '.join(gone)}, because a class or its rest has no unit."
    if found["partial"]:
        words += f" {found['partial']} labels stop at an inner node: left out here, used by the tree below."
    return tag("p", words, class_="note")


def _tree(found: Mapping[str, Any], path: Path, name: str) -> list[object]:
    keys = ("macro_auc", "accuracy", "balanced_accuracy", "macro_f1")
    rows: list[Cells] = []
    for k, one in enumerate(found["decisions"]):
        words = f"among {one['node']}" if one["node"] else "all"
        counts = ", ".join(f"{n} {c}" for c, n in one["n"].items())
        row = [_cell(one.get(m), (*path, "decisions", k, m)) for m in keys]
        rows.append([f"{' or '.join(one['children'])} ({words})", counts, *row])
    header = ["Decision", "Units", "AUC", "Accuracy", "Balanced accuracy", "Macro-F1"]
    tree, place = found["tree"], (*path, "tree")
    numbers: list[object] = []
    for key in ("precision", "recall", "f1"):
        label = "F1" if key == "f1" else key
        numbers += [f"{label} ", value(tree[key], (*place, key)), ", " if key != "f1" else ". "]
    return [
        table(header, rows, f"Decisions of the tree, {name}", text_columns=2),
        tag(
            "p", "Hierarchical, each label with its ancestors: ", *numbers,
            "A decision is judged on the units that it concerns, with probabilities given its parent.", class_="note",
        ),
    ]  # fmt: skip


def _patient_means(found: Mapping[str, Any], path: Path, name: str) -> Markup | None:
    entry = found["per_patient"]
    if "reason" in entry:
        return tag("p", f"No values per patient by mean probability: {entry['reason']}.", class_="note")
    keys = [k for k in OVERALL if k in entry]
    row = [_cell(entry[k], (*path, "per_patient", k)) for k in keys]
    caption = f"One value per patient, {name}: the mean of the rows' probabilities"
    return table([capital(LABELS[k]) for k in keys], [row], caption, text_columns=0)


def pooled(run: Run) -> list[Markup]:
    """Leaving one patient out: pooled values beside what predictions without knowledge give, folded away."""
    out = []
    for name, facts in ranked(run).items():
        found, path = facts["out_of_fold"]["pooled"], ("predictors", name, "out_of_fold", "pooled")
        references = [
            k for k in ("permutation_mean", "within_patients_mean", "training_shares") if k in found["macro_f1"]
        ]
        words = {"permutation_mean": "Labels shuffled", "within_patients_mean": "Shuffled within patients",
                 "training_shares": "Training shares"}  # fmt: skip
        rows: list[Cells] = [
            [
                capital(LABELS[k]), value(found[k], (*path, k), DIGITS.get(k, 2)),
                *(number(found[k].get(r), DIGITS.get(k, 2), (*path, k, r)) for r in references),
            ]
            for k in OVERALL if k in found
        ]  # fmt: skip
        shown = table(["Measure", "Pooled", *(words[r] for r in references)], rows, f"Pooled over patients, {name}")
        out.append(join([shown, tag("p", f"{capital(found['note'])}.", class_="note")]))
    return out


def write_tables(run: Run) -> None:
    """tables/per_class.csv, and tables/patients.csv where there is a table of patients; patients are numbered."""
    lines: list[list[Any]] = []
    people: list[list[Any]] = []
    for name, facts in ranked(run).items():
        found = facts["out_of_fold"]
        for c in found["classes"]:
            entries = found["per_class"][c]
            cells = [entries.get(k, {}).get(end) for k in EACH for end in ("value", "low", "high")]
            lines.append([name, c, found["per_class_n"][c], *cells])
        for entry in facts.get("patients", {}).get("table", ()):
            cells = [entry["classes"][c] for c in run.classes] + [entry["training"][c] for c in run.classes]
            cells += [entry.get(k) for k in ("macro_f1", "accuracy", "hierarchical_f1", "log_loss")]
            people.append([name, entry["patient"], entry["rows"], entry["partial"], *cells, *(entry["auc"].values())])
    ends = [f"{k}{end}" for k in EACH for end in ("", "_low", "_high")]
    if lines:
        write_csv(run.path / "tables" / "per_class.csv", ["predictor", "class", "n", *ends], lines)
    if people:
        counts = [f"rows {c}" for c in run.classes] + [f"training rows {c}" for c in run.classes]
        scores = ["macro_f1", "accuracy", "hierarchical_f1", "log_loss", *(f"auc {c}" for c in run.classes)]
        header = ["predictor", "patient", "rows", "partial", *counts, *scores]
        write_csv(run.path / "tables" / "patients.csv", header, people)
