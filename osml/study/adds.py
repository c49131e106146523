"""What one predictor adds to another on the same folds, such as imaging to clinical inputs: metrics["adds"].

Discrimination within folds, Brier score and log-loss of all held-out patients, and net benefit at thresholds of the
stated decision: each with the same resamples of patients for both predictors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import BinaryOutcome, ClassOutcome, Cohort, SurvivalOutcome
from osml.cohort.splits import Fold
from osml.errors import NotEstimableError
from osml.evaluation.bootstrap import CONDITIONAL, FIXED, resample_patients
from osml.evaluation.selection import mean_losses, patient_losses
from osml.evaluation.survival_utility import net_benefit_batch_at
from osml.evaluation.utility import net_benefit_batch
from osml.runs.store import PredictionRow
from osml.schema.images import ImageInput, RadiomicsInput, VolumeInput
from osml.schema.model import LabInput, Schema
from osml.study.decision import NO_DECISION
from osml.study.headline import why_none
from osml.study.judge import BOOTSTRAPS, FEW_PATIENTS, Metric, metric, one_patient_per_fold
from osml.study.losses import Compared, compared, unit_losses
from osml.study.select import strata
from osml.study.tasks import probabilities_hidden, withheld

Float = NDArray[np.float64]
NOTE = (
    "Second minus first, on the same held-out patients; the same patients are drawn for both. The fitted models are "
    "held fixed: the interval leaves out how the fits would vary with other training patients, and that folds share "
    "training patients, so it is somewhat too narrow. Several pairs are not corrected for their number."
)
LOWER = ("brier", "log_loss")  # better when lower
LABELS = {"auc": "AUC", "c": "Harrell's C", "macro_auc": "macro AUC", "brier": "Brier score", "log_loss": "log-loss"}
SAID = {
    "better": "an improvement is shown", "worse": "it is worse", "not shown": "no improvement is shown",
    None: "no interval, so nothing is shown",
}  # fmt: skip
_CELLS = 4_000_000  # weights held at a time


def adds(
    schema: Schema,
    cohort: Cohort,
    folds: Sequence[Fold],
    rows: Sequence[PredictionRow],
    predictors: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """One entry per pair of `report.adds`.

    Returns
    -------
    list of dict
        `without`, `with`, `added` and `lacks` (inputs that only one of them rests on), `measures` (name → without,
        with, difference), `net_benefit` (one entry per threshold, or a reason), `decides`, `verdict` (better, worse,
        not shown, or none without an interval), `sentence`, `note`; or `reason` where a predictor is not ranked.
    """
    return [_pair(schema, cohort, folds, rows, predictors, *pair) for pair in schema.report.adds]


@dataclass(frozen=True)
class _Pair:
    """Both predictors on their folds, and the patients drawn (B, G); None where they are too few."""

    schema: Schema
    found: Compared
    names: tuple[str, str]
    drawn: Float | None

    @property
    def one(self) -> Float:
        return np.ones((1, len(self.found.names)))

    @property
    def few(self) -> str:
        return f"{len(self.found.names)} patients: no interval"

    @property
    def interval(self) -> str:
        return FIXED if self.schema.validation.split.kind in ("holdout", "time") else CONDITIONAL


def _pair(
    schema: Schema,
    cohort: Cohort,
    folds: Sequence[Fold],
    rows: Sequence[PredictionRow],
    predictors: Mapping[str, Any],
    without: str,
    within: str,
) -> dict[str, Any]:
    before, after = set(schema.ancestors(without)), set(schema.ancestors(within))
    out: dict[str, Any] = {
        "without": without,
        "with": within,
        "added": [name for name in schema.inputs if name in after - before],
        "lacks": [name for name in schema.inputs if name in before - after],
    }
    failed = [name for name in (without, within) if predictors[name]["failed_folds"]]
    if failed:
        return out | {"reason": f"{failed[0]}: {predictors[failed[0]]['out_of_fold']['reason']}"}
    found = compared(rows, (without, within), cohort, folds)
    drawn = None
    if len(found.names) >= FEW_PATIENTS:
        rng = np.random.default_rng([schema.validation.seed, 9])
        groups = strata(schema, found, folds)
        drawn = resample_patients(np.arange(len(found.names)), BOOTSTRAPS, rng, strata=groups).astype(float)
    pair = _Pair(schema, found, (without, within), drawn)
    out["measures"] = {**_discrimination(pair), **_accuracy(pair)}
    out["net_benefit"] = _net_benefit(pair)
    out["decides"] = next((k for k, v in out["measures"].items() if v["difference"]["value"] is not None), None)
    out["verdict"] = None if out["decides"] is None else _verdict(out["measures"][out["decides"]], out["decides"])
    return out | {"sentence": _sentence(schema, out), "note": NOTE}


def _discrimination(pair: _Pair) -> dict[str, Any]:
    outcome = pair.found.cohort.outcome
    assert outcome is not None
    name = "auc" if isinstance(outcome, BinaryOutcome) else "macro_auc"
    if isinstance(outcome, SurvivalOutcome):
        name = "c"
    if pair.schema.validation.split.kind == "leave_one_patient_out":
        return {name: _absent(one_patient_per_fold()["reason"])}
    own = [pair.found.discrimination(n, pair.one)[name] for n in pair.names]
    if not np.isfinite(own).all():
        return {name: _absent(why_none(outcome, pair.found.units))}
    drawn = None if pair.drawn is None else [pair.found.discrimination(n, pair.drawn)[name] for n in pair.names]
    return {name: _entry(pair, own, drawn)}


def _accuracy(pair: _Pair) -> dict[str, Any]:
    """Brier score and log-loss; of classes the log-loss, which also takes labels that stop at an inner node."""
    names = ("log_loss",) if isinstance(pair.found.cohort.outcome, ClassOutcome) else ("brier", "log_loss")
    hidden = probabilities_hidden(pair.schema)
    if hidden:
        return {name: _absent(hidden) for name in names}
    try:
        losses = {name: unit_losses(pair.found, name) for name in pair.names}
    except NotEstimableError as error:
        return {name: _absent(error.what) for name in names}
    out = {}
    for name in names:
        key = "log" if name == "log_loss" else "square"
        spread = np.stack([pair.found.spread(n, getattr(losses[n], key)) for n in pair.names])
        sums = patient_losses(spread, pair.found.code)
        own = mean_losses(sums, pair.one).T
        if not np.isfinite(own).all():
            out[name] = _absent("infinite: an outcome that occurred was given probability 0")
            continue
        drawn = None if pair.drawn is None else list(mean_losses(sums, pair.drawn).T)
        out[name] = _entry(pair, list(own), drawn)
    return out


def _net_benefit(pair: _Pair) -> list[dict[str, Any]] | dict[str, str]:
    """At both ends and in the middle of the thresholds of the decision."""
    decision, outcome = pair.schema.decision, pair.found.cohort.outcome
    reason = withheld(pair.schema)
    if isinstance(outcome, ClassOutcome):
        reason = "decision curves are for an event, not for classes"
    if decision is None or reason:
        return {"reason": reason or NO_DECISION}
    low, high = decision.thresholds
    cuts = np.array([low, (low + high) / 2, high])
    try:
        own = [_benefits(pair, name, cuts, pair.one) for name in pair.names]
        drawn = None if pair.drawn is None else [_benefits(pair, name, cuts, pair.drawn) for name in pair.names]
    except NotEstimableError as error:
        return {"reason": error.what}
    out = []
    for k, cut in enumerate(cuts):
        at = [values[:, k] for values in own]
        entry = _absent("the patients at or above it are not followed to the horizon")
        if np.isfinite(at).all():
            entry = _entry(pair, at, None if drawn is None else [values[:, k] for values in drawn])
        out.append({"threshold": float(cut), **entry})
    return out


def _benefits(pair: _Pair, predictor: str, cuts: Float, patients: Float) -> Float:
    """Net benefit under weights of patients, (B, thresholds): all folds and repeats pooled, as the decision curve."""
    outcome, found = pair.found.cohort.outcome, pair.found.parts[predictor]
    index = np.concatenate([part.index for part in found])
    p = np.concatenate([part.p[:, -1] for part in found])
    size = max(1, _CELLS // len(index))
    out = []
    for start in range(0, len(patients), size):
        w = np.concatenate(pair.found.weights(predictor, patients[start : start + size]), axis=1)
        if isinstance(outcome, SurvivalOutcome):
            time, event = outcome.time[index], outcome.event[index]
            out.append(net_benefit_batch_at(time, event, p, outcome.horizons[-1], cuts, w))
        else:
            assert isinstance(outcome, BinaryOutcome)
            prevalence = pair.schema.study.prevalence
            share = None if prevalence is None else prevalence.value
            out.append(net_benefit_batch(outcome.y[index], p, cuts, w, prevalence=share))
    return np.concatenate(out)


def _entry(pair: _Pair, own: Sequence[Float], drawn: Sequence[Float] | None) -> dict[str, Any]:
    """Values of both and their difference; percentile limits unless more than a tenth of the resamples lack it."""
    first, second = (float(values[0]) for values in own)
    out = {"without": first, "with": second}
    if drawn is None:
        return out | {"difference": metric(second - first, reason=pair.few)}
    each = drawn[1] - drawn[0]
    good = each[np.isfinite(each)]
    if len(good) < 0.9 * len(each):
        why = "no interval: in more than a tenth of the resamples it does not exist"
        return out | {"difference": metric(second - first, reason=why)}
    low, high = np.quantile(good, [0.025, 0.975])
    return out | {"difference": metric(second - first, low=float(low), high=float(high), interval=pair.interval)}


def _absent(reason: str) -> dict[str, Any]:
    return {"without": None, "with": None, "difference": metric(None, reason=reason)}


def _verdict(entry: Mapping[str, Any], measure: str) -> str | None:
    """What the interval says, the direction of the measure taken into account."""
    difference: Metric = entry["difference"]
    if difference.get("low") is None:
        return None
    low, high = difference["low"], difference["high"]
    if low <= 0 <= high:
        return "not shown"
    return "better" if (high < 0) == (measure in LOWER) else "worse"


def _sentence(schema: Schema, entry: Mapping[str, Any]) -> str:
    """For a clinician: what was added to what, by how much, and whether that is more than chance."""
    without, within = entry["without"], entry["with"]
    what = _what(schema, entry["added"])
    head = f"{within} in place of {without}" + ("" if entry["lacks"] else ", with the same inputs")
    if what and not entry["lacks"]:
        head = f"Adding {what} to {without} ({within})"
    measure = entry["decides"]
    if measure is None:
        reasons = [one["difference"].get("reason", "") for one in entry["measures"].values()]
        return f"{head}: not estimable ({reasons[0]})."
    parts = [_words(LABELS[measure], entry["measures"][measure], measure)]
    if isinstance(entry["net_benefit"], list):
        middle = entry["net_benefit"][1]
        if middle["difference"]["value"] is not None:
            parts.append(_words(f"net benefit at a risk of {100 * middle['threshold']:g} %", middle, "net_benefit"))
    sentence = f"{head}: {'; '.join(parts)}."
    if entry["lacks"]:
        sentence += f" {within} does not use {_join(_labels(schema, entry['lacks']))}"
        sentence += f", so the difference is not only what {what} adds." if what else "."
    return sentence


def _words(label: str, entry: Mapping[str, Any], measure: str) -> str:
    difference, digits = entry["difference"], 2 if measure in ("auc", "c", "macro_auc") else 3
    text = f"{label} {_signed(difference['value'], digits)}"
    if difference.get("low") is not None:
        text += f" ({_signed(difference['low'], digits)} to {_signed(difference['high'], digits)})"
    return f"{text}: {SAID[_verdict(entry, measure)]}"


def _signed(value: float, digits: int) -> str:
    if not round(value, digits):
        return f"{0:.{digits}f}"
    return f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def _what(schema: Schema, added: Sequence[str]) -> str:
    """What the added inputs are, in words; "" for none."""
    blocks = [schema.inputs[name] for name in added]
    if not blocks:
        return ""
    if all(isinstance(block, ImageInput | VolumeInput | RadiomicsInput) for block in blocks):
        return "imaging"
    if all(isinstance(block, LabInput) for block in blocks):
        return "laboratory values"
    return _join(_labels(schema, added)) if len(added) <= 3 else f"{len(added)} further inputs"


def _labels(schema: Schema, names: Sequence[str]) -> list[str]:
    return [getattr(schema.inputs[name], "label", None) or name for name in names]


def _join(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
