"""What each input adds: the fused network against the same network with fewer inputs, on the same folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import ClassOutcome, Cohort
from osml.cohort.splits import Fold
from osml.evaluation.bootstrap import CONDITIONAL, FIXED, resample_patients
from osml.evaluation.class_measures import class_measures
from osml.runs.store import PredictionRow
from osml.schema.images import ImageInput, VolumeInput
from osml.schema.model import Schema
from osml.study.headline import BETTER, Part, averaged, columns_of, measures_of, parts, why_none
from osml.study.judge import BOOTSTRAPS, FEW_PATIENTS, Metric, metric

Float = NDArray[np.float64]
LABELS = {"auc": "AUC", "c": "Harrell's C", "macro_f1": "macro-F1"}


def judge_ablation(
    full_rows: Sequence[PredictionRow],
    ablation_rows: Sequence[PredictionRow],
    cohort: Cohort,
    folds: Sequence[Fold],
    schema: Schema,
    hidden: str,
) -> dict[str, Any]:
    """Each subset of the inputs beside the fused network, and one sentence on whether fusion was worth it.

    Parameters
    ----------
    full_rows : predictions of one network
    ablation_rows : of the networks with fewer inputs, `predictor` = `name[input+input]`
    hidden : why measures of probabilities cannot be computed, "" when they can

    Returns
    -------
    dict
        `full`: measures of the fused network; `subsets`: inputs, kind (image, rest, both), measures and `difference`,
        full − subset, with a paired patient bootstrap; with fewer than 20 patients per-patient differences and their
        range. `decides`: the measure that the sentence speaks of.

    Notes
    -----
    The better of the two kinds is chosen on the same folds, which favours it slightly.
    """
    if not ablation_rows:
        return {"reason": "one kind of input, or no ablation was asked for: nothing to compare fusion with"}
    outcome = cohort.outcome
    assert outcome is not None
    pooled = schema.validation.split.kind == "leave_one_patient_out"
    by_name: dict[str, list[PredictionRow]] = {}
    for row in ablation_rows:
        by_name.setdefault(row.predictor, []).append(row)
    name = full_rows[0].predictor
    whole = _parts(full_rows, cohort, folds)
    names = measures_of(outcome)
    study = _Study(cohort, schema, hidden, pooled, names)
    subsets = []
    for label, rows in sorted(by_name.items(), key=lambda item: (item[0].count("+"), item[0])):
        inputs = label.removeprefix(f"{name}[").removesuffix("]").split("+")
        entry: dict[str, Any] = {"inputs": inputs, "kind": kind_of(schema, inputs)}
        mine = _parts(rows, cohort, folds)
        if len(mine) < len(whole):
            entry["reason"] = f"{len(whole) - len(mine)} of {len(whole)} folds failed"
        else:
            entry["measures"] = study.measures(mine)
            entry["difference"] = study.difference(whole, mine)
        subsets.append(entry)
    out: dict[str, Any] = {
        "decides": names[0],
        "full": {"inputs": list(schema.predictors[name].inputs), "measures": study.measures(whole)},
        "subsets": subsets,
    }
    out["sentence"] = sentence(out, len(cohort.patient_ids), schema)
    return out


def kind_of(schema: Schema, inputs: Sequence[str]) -> str:
    """`image`: pictures and volumes alone; `rest`: none of them; `both`."""
    looked = {isinstance(schema.inputs.get(name), (ImageInput, VolumeInput)) for name in inputs}
    return "both" if len(looked) == 2 else "image" if looked == {True} else "rest"


class _Study:
    """What all comparisons of one network share."""

    def __init__(self, cohort: Cohort, schema: Schema, hidden: str, pooled: bool, names: tuple[str, ...]) -> None:
        self.cohort, self.hidden, self.pooled, self.names = cohort, hidden, pooled, names
        self.split, self.seed = schema.validation.split.kind, schema.validation.seed
        self.ids = np.unique(np.array(cohort.patients, dtype=object).astype(str))

    def measures(self, found: Sequence[Part]) -> dict[str, Metric]:
        """Values over the folds."""
        outcome = self.cohort.outcome
        assert outcome is not None
        value = averaged(found, outcome, pooled=self.pooled)
        return {name: self._metric(name, float(value[name][0]), found) for name in self.names}

    def _metric(self, name: str, value: float, found: Sequence[Part]) -> Metric:
        if name == "brier" and self.hidden:
            return metric(None, reason=self.hidden)
        if np.isfinite(value):
            return metric(value)
        outcome = self.cohort.outcome
        assert outcome is not None
        return metric(None, reason=why_none(outcome, np.concatenate([part.index for part in found])))

    def difference(self, whole: Sequence[Part], subset: Sequence[Part]) -> dict[str, Any]:
        """Full − subset: with intervals from patients drawn for both alike, or patient by patient if they are few."""
        outcome = self.cohort.outcome
        assert outcome is not None
        a, b = (averaged(found, outcome, pooled=self.pooled) for found in (whole, subset))
        out: dict[str, Any] = {}
        # Only patients that were tested are drawn.
        everyone = np.unique(np.concatenate([part.index for part in whole]))
        tested = np.unique(np.array(self.cohort.patients, dtype=object)[everyone].astype(str))
        few = len(tested) < FEW_PATIENTS
        drawn = {} if few else self._drawn(whole, subset, tested)
        for name in self.names:
            value = float(a[name][0] - b[name][0])
            entry = self._metric(name, value, whole)
            if entry["value"] is not None and few:
                entry["reason"] = f"{len(tested)} patients: no interval, no test"
            elif entry["value"] is not None:
                entry |= _percentiles(drawn[name], FIXED if self.split in ("holdout", "time") else CONDITIONAL)
            if name in BETTER:
                entry["better"] = BETTER[name]
            out[name] = entry
        if few and isinstance(outcome, ClassOutcome) and self.cohort.clustered:
            out["patients"] = self._by_patient(whole, subset)
        return out

    def _drawn(self, whole: Sequence[Part], subset: Sequence[Part], ids: NDArray[np.str_]) -> dict[str, Float]:
        outcome = self.cohort.outcome
        assert outcome is not None
        count = BOOTSTRAPS // 5 if self.names == ("c",) else BOOTSTRAPS
        draws = resample_patients(ids, count, np.random.default_rng([self.seed, 1])).astype(float)
        code = {patient: k for k, patient in enumerate(ids)}

        def weights(found: Sequence[Part]) -> list[Float]:
            return [draws[:, [code[str(self.cohort.patients[i])] for i in part.index]] for part in found]

        a = averaged(whole, outcome, pooled=self.pooled, weights=weights(whole))
        b = averaged(subset, outcome, pooled=self.pooled, weights=weights(subset))
        return {name: a[name] - b[name] for name in self.names}

    def _by_patient(self, whole: Sequence[Part], subset: Sequence[Part]) -> dict[str, Any]:
        """Difference of macro-F1 over the classes that the patient has, mean over repeats."""
        a, b = _patient_scores(whole, self.cohort), _patient_scores(subset, self.cohort)
        found = [
            {"patient": f"patient {k + 1}", "difference": a[patient] - b[patient]}
            for k, patient in enumerate(self.cohort.patient_ids)
            if patient in a and patient in b
        ]
        each = [float(one["difference"]) for one in found]  # type: ignore[arg-type]
        return {"measure": "macro_f1 over the classes of the patient", "table": found, "range": [min(each), max(each)]}


def _patient_scores(found: Sequence[Part], cohort: Cohort) -> dict[str, float]:
    outcome = cohort.outcome
    assert isinstance(outcome, ClassOutcome)
    patients = np.array(cohort.patients, dtype=object)
    place = {outcome.tree.nodes.index(name): k for k, name in enumerate(outcome.tree.leaves)}
    scores: dict[str, list[float]] = {}
    for part in found:
        for patient in dict.fromkeys(patients[part.index]):
            here = (patients[part.index] == patient) & outcome.full[part.index]
            if not here.any():
                continue
            y = [place[k] for k in outcome.node[part.index[here]].tolist()]
            p = part.p[here]
            each = class_measures(y, p / p.sum(axis=1, keepdims=True)).each["f1"][0]
            scores.setdefault(patient, []).append(float(np.nanmean(each)))
    return {patient: float(np.mean(values)) for patient, values in scores.items()}


def _percentiles(replicates: Float, kind: str) -> dict[str, Any]:
    good = replicates[np.isfinite(replicates)]
    if len(good) < 0.9 * len(replicates):
        return {"reason": "no interval: in more than a tenth of the resamples the difference does not exist"}
    low, high = np.percentile(good, [2.5, 97.5])
    return {"low": float(low), "high": float(high), "interval": f"{kind}; both networks on the same patients"}


def sentence(found: Mapping[str, Any], patients: int, schema: Schema) -> str:
    """Whether fusion beat the better of images alone and the rest alone, in one sentence."""
    key = found["decides"]
    label = LABELS[key]
    full = found["full"]["measures"][key].get("value")
    split = _split(schema, found["full"]["inputs"])
    pair = [s for s in found["subsets"] if frozenset(s["inputs"]) in {frozenset(side) for side in split}]
    known = [s for s in pair if s.get("measures", {}).get(key, {}).get("value") is not None]
    if full is None or len(known) < 2:
        return (
            f"Whether fusion is worth it cannot be said: {label} of the fused network, of images alone and of the "
            "other inputs alone do not all exist on these folds."
        )
    best = max(known, key=lambda s: s["measures"][key]["value"])
    other = best["measures"][key]["value"]
    rivals = "the better of the two" if len(known) == 2 else "the best single input"
    words = f"{rivals}, {' + '.join(best['inputs'])} alone"
    numbers = f"{label} {full:.2f} against {other:.2f}"
    difference = best["difference"][key]
    test = "the test set" if schema.validation.split.kind in ("holdout", "time") else "these folds"
    if "low" not in difference:
        by = best["difference"].get("patients")
        shown = ""
        if by:
            ahead = sum(one["difference"] > 0 for one in by["table"])
            shown = f"; it was ahead in {ahead} of {len(by['table'])} patients"
        verb = "was ahead of" if full > other else "did not beat"
        few = f"with {patients} patients this shows nothing beyond them"
        end = few if patients < FEW_PATIENTS else "no interval can be given"
        return f"On {test} fusion {verb} {words} ({numbers}){shown}; {end}."
    interval = (
        f"difference {difference['value']:+.2f}, 95 % interval {difference['low']:+.2f} to {difference['high']:+.2f}"
    )
    interval = interval.replace("-", "\N{MINUS SIGN}")
    if difference["low"] > 0:
        return f"On {test} fusion beat {words}: {numbers}, {interval}."
    if full > other:
        return f"On {test} fusion was not shown to beat {words}: {numbers}, {interval}, which includes no gain."
    return f"On {test} fusion did not beat {words}: {numbers}, {interval}."


def _split(schema: Schema, inputs: Sequence[str]) -> list[tuple[str, ...]]:
    """Images alone and the rest alone; where all inputs are of one kind, each input alone."""
    image = tuple(name for name in inputs if kind_of(schema, [name]) == "image")
    rest = tuple(name for name in inputs if name not in image)
    return [image, rest] if image and rest else [(name,) for name in inputs]


def _parts(rows: Sequence[PredictionRow], cohort: Cohort, folds: Sequence[Fold]) -> list[Part]:
    outcome = cohort.outcome
    assert outcome is not None
    cells = ((r.repeat, r.fold, r.unit, r.column, r.p, r.lp) for r in rows)
    return parts(cells, columns_of(outcome, rows), cohort, folds)
