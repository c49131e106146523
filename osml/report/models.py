"""All predictors in one table as papers print it: area and counts at a threshold, held out beside apparent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import BinaryOutcome, SurvivalOutcome
from osml.cohort.splits import development_patients
from osml.errors import NotEstimableError
from osml.evaluation.concordance import harrell_c
from osml.evaluation.delong import delong, delong_clustered
from osml.evaluation.discrimination import auc
from osml.files import atomic_write, write_csv
from osml.predictors.chain import load_chain
from osml.report.html import Markup, join, number, table, tag
from osml.report.run import Run
from osml.report.wording import percent

Float = NDArray[np.float64]
CUSTOM = 0.5  # printed because papers print it, not because anybody acts at it
COUNTS = ("accuracy", "sensitivity", "specificity", "precision", "f1")
CLASS_MEASURES = ("macro_f1", "macro_auc", "accuracy")
FEWEST = 20  # patients below whom no interval is given, as for held-out values


@dataclass(frozen=True)
class Area:
    """AUC or C with its interval; None where it cannot be had, `reason` then says why."""

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class ModelRow:
    """One predictor on one kind of data; `counts` are those of `COUNTS` at each threshold of the table."""

    predictor: str
    data: str
    n: int
    area: Area
    counts: tuple[dict[str, float | None], ...]


def thresholds(run: Run) -> tuple[float, ...]:
    """Risks at which counts are taken, all fixed beforehand: 0.5, and the middle of the decision's range."""
    if run.survival or run.withheld:
        return ()
    decision = run.schema.decision
    middle = () if decision is None else (round((decision.thresholds[0] + decision.thresholds[1]) / 2, 6),)
    return tuple(dict.fromkeys((CUSTOM, *middle)))


def model_rows(run: Run) -> list[ModelRow]:
    """Every ranked predictor held out, then apparent: the final model on the very patients it was fitted to."""
    at = thresholds(run)
    rows = []
    words = "test patients" if run.independent_test else "out of fold"
    for name in [] if run.classes else run.held_out:
        entry = run.metrics["predictors"][name]["out_of_fold"].get(run.measure, {})
        honest = Area(entry.get("value"), entry.get("low"), entry.get("high"), entry.get("reason", ""))
        repeats = run.repeats(name)
        found = [[_counts(run, r.index, r.p[:, 0], t) for r in repeats] for t in at]
        rows.append(ModelRow(name, words, len(repeats[0].index), honest, tuple(_mean(each) for each in found)))
        if run.network(name):
            rows += _stored(run, name, len(at))
            continue
        own = apparent(run, name)
        if own is not None:
            index, p, _, area = own
            rows.append(ModelRow(name, "apparent", len(index), area, tuple(_counts(run, index, p, t) for t in at)))
    return rows


def _stored(run: Run, predictor: str, thresholds: int) -> list[ModelRow]:
    """The apparent area as the fit recorded it: a report reads no image, so a network predicts nothing here."""
    facts = run.metrics["predictors"][predictor]
    entry = facts.get("apparent", {}).get(run.measure, {})
    if entry.get("value") is None:
        return []
    n = facts["development"]["rows"]
    return [ModelRow(predictor, "apparent", n, Area(entry["value"]), (dict.fromkeys(COUNTS),) * thresholds)]


def apparent(run: Run, predictor: str) -> tuple[NDArray[np.intp], Float, Float, Area] | None:
    """The final model on its own patients: positions, risks, linear predictors, area; None where there is no model.

    Its upstream scores are fitted scores too, as in a published "training set"; the apparent values of metrics.json
    use inner out-of-fold scores instead and are lower where one predictor feeds another.
    """
    folder = run.path / "bundle" / "predictors" / predictor
    if not folder.is_dir():
        return None
    patients = set(development_patients(run.cohort, run.folds, run.schema.validation.split))
    index = np.array([i for i, p in enumerate(run.cohort.patients) if p in patients], dtype=np.intp)
    found = load_chain(run.schema, predictor, folder).predict(run.cohort.take(index))
    return index, found.p[:, 0], found.lp, _area(run, index, found.lp)


def _area(run: Run, index: NDArray[np.intp], lp: Float) -> Area:
    outcome = run.cohort.event_outcome.take(index)
    patients = np.array([run.cohort.patients[i] for i in index], dtype=object)
    try:
        if isinstance(outcome, SurvivalOutcome):
            return Area(harrell_c(outcome.time, outcome.event, lp).value)
        value = auc(outcome.y, lp)
    except NotEstimableError as error:
        return Area(None, reason=error.what)
    if len(set(patients)) < FEWEST:
        return Area(value)
    try:
        found = delong_clustered(outcome.y, lp, patients) if run.clustered else delong(outcome.y, lp)
    except NotEstimableError:
        return Area(value)
    return Area(value, found.low, found.high)


def _counts(run: Run, index: NDArray[np.intp], p: Float, threshold: float) -> dict[str, float | None]:
    """Shares at a threshold; with a stated prevalence, accuracy and precision are those of that population."""
    outcome = run.outcome
    assert isinstance(outcome, BinaryOutcome)
    prevalence = run.schema.study.prevalence
    return counts_at(outcome.y[index], p, threshold, None if prevalence is None else prevalence.value)


def counts_at(y: Float, p: Float, threshold: float, prevalence: float | None = None) -> dict[str, float | None]:
    """Accuracy, sensitivity, specificity, precision and F1; positive means p >= threshold. None where 0 / 0.

    >>> found = counts_at(np.array([1.0, 1, 0, 0]), np.array([0.9, 0.4, 0.6, 0.1]), 0.5)
    >>> [found[key] for key in COUNTS]
    [0.5, 0.5, 0.5, 0.5, 0.5]
    """
    positive, n1, n0 = p >= threshold, float(y.sum()), float((1 - y).sum())
    share = (n1 / len(y) if len(y) else 0.0) if prevalence is None else prevalence
    sensitivity = float(y[positive].sum()) / n1 if n1 else None
    specificity = float((1 - y)[~positive].sum()) / n0 if n0 else None
    if sensitivity is None or specificity is None:
        return {"accuracy": None, "sensitivity": sensitivity, "specificity": specificity, "precision": None, "f1": None}
    hit, miss = share * sensitivity, share * (1 - sensitivity)
    false = (1 - share) * (1 - specificity)
    return {
        "accuracy": hit + (1 - share) * specificity,
        "sensitivity": sensitivity,
        "specificity": specificity,
        "precision": hit / (hit + false) if positive.any() else None,
        "f1": 2 * hit / (2 * hit + false + miss),
    }


def _mean(repeats: Sequence[dict[str, float | None]]) -> dict[str, float | None]:
    """Mean over repeats of what exists; predictions are never averaged over repeats."""
    out: dict[str, float | None] = {}
    for key in COUNTS:
        known = [value for one in repeats if (value := one[key]) is not None]
        out[key] = float(np.mean(known)) if known else None
    return out


def write_models(run: Run, rows: Sequence[ModelRow]) -> None:
    """tables/models.csv, one line per predictor, kind of data and threshold, and its note; no rows, no file."""
    if run.classes:
        write_csv(run.path / "tables" / "models.csv", ["predictor", "data", *CLASS_MEASURES], _class_lines(run))
        return
    if not rows:
        return
    measure = run.measure
    header = ["predictor", "data", "n", measure, f"{measure}_low", f"{measure}_high"]
    lines: list[list[Any]] = []
    at = thresholds(run)
    for row in rows:
        start = [row.predictor, row.data, row.n, row.area.value, row.area.low, row.area.high]
        lines += [[*start, t, *(c[k] for k in COUNTS)] for t, c in zip(at, row.counts, strict=True)] or [start]
    path = run.path / "tables" / "models.csv"
    write_csv(path, [*header, *(("threshold", *COUNTS) if at else ())], lines)
    atomic_write(path.with_suffix(".note.txt"), models_note(run) + "\n")


def models_note(run: Run) -> str:
    """What stands under the table of models."""
    kind = "C" if run.survival else "AUC"
    parts = [
        "Apparent: the final model on the very patients it was fitted to, a score that feeds it included, as the "
        "“training set” of many papers. Too good, and no evidence: only the other rows say what to expect. Intervals "
        f"of the held-out {kind}: as in the results table" + ("." if run.survival else "; of the apparent one: DeLong.")
    ]
    if run.survival:
        parts.append("Sensitivity and its kin at a fixed threshold do not exist for a time with censoring.")
        return " ".join(parts)
    if run.withheld:
        parts.append(f"No counts at a threshold: {run.withheld}.")
        return " ".join(parts)
    parts.append("Positive: predicted risk at or above the threshold")
    parts[-1] += ", mean over the repeats." if max((len(run.repeats(n)) for n in run.held_out), default=1) > 1 else "."
    parts.append("0.5 is what papers print; hardly anybody decides there.")
    if run.schema.decision is not None:
        parts.append("The other threshold is the middle of the range that the study states for its decision.")
    outcome = run.outcome
    assert isinstance(outcome, BinaryOutcome)
    prevalence = run.schema.study.prevalence
    share = float(outcome.y.mean()) if prevalence is None else prevalence.value
    larger, word = (share, outcome.positive) if share > 0.5 else (1 - share, outcome.negative)
    parts.append(f"Calling every patient “{word}” has an accuracy of {percent(round(larger, 3))}.")
    if prevalence is not None:
        parts.append("Accuracy, precision and F1 are those at the stated prevalence.")
    return " ".join(parts)


def models_table(run: Run, rows: Sequence[ModelRow]) -> Markup:
    """The table as the page shows it, one a threshold."""
    if run.classes:
        return _class_models(run)
    if not rows:
        return tag("p", "No table of models: no predictor finished all its folds.", class_="absent")
    label = "Harrell's C" if run.survival else "AUC"
    head = ["Predictor", "Data", run.units.capitalize(), f"{label} (95 % interval)"]
    at = thresholds(run)
    parts: list[object] = []
    for k, threshold in enumerate(at or (None,)):
        cells: list[list[object]] = []
        for row in rows:
            line: list[object] = [row.predictor, row.data, row.n, _shown(run, row)]
            if threshold is not None:
                line += [number(row.counts[k][key], 2) for key in COUNTS]
            cells.append(line)
        words = "" if threshold is None else f"; counts at a risk of {threshold:g}"
        names = [] if threshold is None else ["Accuracy", "Sensitivity", "Specificity", "Precision", "F1"]
        caption = f"Held out beside apparent{words}"
        parts.append(table([*head, *names], cells, caption, text_columns=2))
    parts += [tag("p", models_note(run), class_="note")]
    parts += [tag("p", "File: ", tag("code", "tables/models.csv"), class_="file")]
    return join(parts)


def _class_lines(run: Run) -> list[list[Any]]:
    """Held out and apparent values of predictors of classes; leaving one patient out, those pooled over patients."""
    lines: list[list[Any]] = []
    for name in run.held_out:
        facts = run.metrics["predictors"][name]
        found = facts["out_of_fold"]
        honest = found["pooled"] if run.alone else found
        words = "pooled over patients" if run.alone else "test patients" if run.independent_test else "out of fold"
        lines.append([name, words, *(honest[k].get("value") for k in CLASS_MEASURES)])
        own = facts.get("apparent", {})
        if any(k in own for k in CLASS_MEASURES):
            lines.append([name, "apparent", *(own.get(k, {}).get("value") for k in CLASS_MEASURES)])
    return lines


def _class_models(run: Run) -> Markup:
    cells: list[list[object]] = []
    for line in _class_lines(run):
        held = ("out_of_fold", "pooled") if run.alone else ("out_of_fold",)
        place = ("apparent",) if line[1] == "apparent" else held
        path = ("predictors", line[0], *place)
        numbers = [number(v, 2, (*path, k, "value")) for k, v in zip(CLASS_MEASURES, line[2:], strict=True)]
        cells.append([line[0], line[1], *numbers])
    note = (
        "Apparent: the final model on the very patients it was fitted to. Too good, and no evidence: only the other "
        "rows say what to expect."
    )
    header = ["Predictor", "Data", "Macro-F1", "Macro AUC", "Accuracy"]
    shown = table(header, cells, "Held out beside apparent", text_columns=2)
    return join(
        [shown, tag("p", note, class_="note"), tag("p", "File: ", tag("code", "tables/models.csv"), class_="file")]
    )


def _shown(run: Run, row: ModelRow) -> Markup:
    area = row.area
    if area.value is None:
        return join([area.reason or "not estimable"])
    where: tuple[str | int, ...] | None = None
    if row.data != "apparent":
        where = ("predictors", row.predictor, "out_of_fold", run.measure)
    ends = [None if where is None else (*where, key) for key in ("value", "low", "high")]
    parts: list[object] = [number(area.value, 2, ends[0])]
    if area.low is not None:
        parts += [" (", number(area.low, 2, ends[1]), " to ", number(area.high, 2, ends[2]), ")"]
    return join(parts)
