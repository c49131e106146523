"""The choice among the predictors of a study, and what the chosen one is worth after it: metrics["selection"].

Everything rests on stored out-of-fold predictions. A predictor with a fold that failed or was not run is not ranked: on
the folds that are left it would be judged on other patients than the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import BinaryOutcome, ClassOutcome, Cohort
from osml.cohort.splits import Fold
from osml.errors import NotEstimableError
from osml.evaluation.bootstrap import CONDITIONAL, FIXED
from osml.evaluation.multiplicity import holm
from osml.evaluation.selection import (
    CHOSEN_ANEW,
    Choice,
    Choices,
    PatientLosses,
    choose,
    choose_anew,
    corrected,
    judge_drawn,
    judge_left_out,
    mean_losses,
    patient_losses,
)
from osml.runs.store import PredictionRow
from osml.schema.model import Schema
from osml.schema.targets import BinaryTarget, SurvivalTarget
from osml.study.compare import compare_folds, compare_test_set
from osml.study.complexity import ORDER, RANKS, complexity
from osml.study.judge import FEW_PATIENTS, Metric, collect, metric
from osml.study.losses import Compared, UnitLosses, compared, unit_losses
from osml.study.tasks import probabilities_hidden

Float = NDArray[np.float64]
DRAWS = 1000
FEWEST = 10  # patients; below, a standard error over patients is itself not known
NOT_CORRECTED = (
    "Values in the table are not corrected: the best of several looks better than it is, by luck. The corrected value "
    "allows for the choice among these predictors, not for anything tried before or elsewhere."
)
SAME_PATIENTS = "The p-values do not allow for the winner having been chosen on the same predictions."


def select(
    schema: Schema,
    cohort: Cohort,
    folds: Sequence[Fold],
    rows: Sequence[PredictionRow],
    predictors: Mapping[str, Any],
) -> dict[str, Any] | None:
    """Choose one predictor and correct its performance for the choice; None where the study does not ask for it.

    Parameters
    ----------
    rows : stored predictions of all predictors
    predictors : their facts, with `folds`, `failed_folds` and `out_of_fold`

    Returns
    -------
    dict
        `table`, one entry a predictor: complexity, loss, difference to the best with its standard error, how often it
        was chosen in resamples, uncorrected measures. `winner`, `best`, `uncorrected`, `corrected`, `comparisons`;
        or `reason` instead of these, where nothing can be chosen.
    """
    if not schema.report.select:
        return None
    measures: tuple[str, ...] = ("auc",) if isinstance(cohort.outcome, BinaryOutcome) else ("c",)
    if isinstance(cohort.outcome, ClassOutcome):
        measures = ("macro_f1", "macro_auc")
    hidden = probabilities_hidden(schema)
    without = set() if hidden else {row.predictor for row in rows if not np.isfinite(row.p)}
    table = [_entry(schema, name, predictors[name], measures, name in without) for name in schema.predictors]
    out: dict[str, Any] = {
        "rule": _rule(schema),
        "measure": "log_loss",
        "measures": list(measures),
        "note": NOT_CORRECTED,
        "table": table,
    }
    ranked = [entry["predictor"] for entry in table if "reason" not in entry]
    patients = len({p for fold in folds for p in fold.test})
    if hidden:
        return out | {"reason": f"nothing is chosen, since the log-loss decides: {hidden}"}
    if patients < FEWEST:
        why = "a standard error over so few says too little"
        return out | {"reason": f"nothing is chosen: {patients} patients were held out, and {why}"}
    if not ranked:
        return out | {"reason": "nothing is chosen: no predictor finished all its folds"}
    if len(ranked) == 1:
        return out | {"reason": f"only {ranked[0]} finished all its folds: there was nothing to choose from"}
    try:
        found = compared(rows, ranked, cohort, folds)
        losses = {name: unit_losses(found, name) for name in ranked}
        sums = {"log_loss": _added(found, losses, "log")}
        if not isinstance(cohort.outcome, ClassOutcome):
            sums["brier"] = _added(found, losses, "square")
        ranks = [RANKS.index(complexity(schema, name)) for name in ranked]
        choice = choose(sums["log_loss"], ranks)
    except NotEstimableError as error:
        return out | {"reason": f"nothing is chosen: {error.what}"}
    rng = np.random.default_rng([schema.validation.seed, 8])
    anew = choose_anew(sums["log_loss"], ranks, DRAWS, rng, strata=strata(schema, found, folds))
    judged = _Judged(schema, found, tuple(ranked), sums, choice, anew, measures)
    _fill(table, judged)
    winner = ranked[choice.chosen]
    mine = next(entry for entry in table if entry["predictor"] == winner)
    facts = {
        "winner": winner,
        "best": ranked[choice.best],
        "draws": DRAWS,
        "patients": patients,
        "uncorrected": {key: mine[key] for key in (*measures, *sums)},
        "corrected": _corrected(judged, predictors[winner]),
        "comparisons": _comparisons(judged, predictors, losses, rows, cohort, folds),
        "comparisons_note": SAME_PATIENTS,
    }
    if judged.one_set:
        facts["test_set"] = (
            "The one test set made the choice, so it is no longer untouched by it; the corrected value allows for "
            "that, a test on other patients would show it."
        )
    return out | facts


@dataclass(frozen=True)
class _Judged:
    """What the tables are made of; positions are those of `names`.

    sums : "log_loss" and where it exists "brier", the losses added up by patient
    """

    schema: Schema
    found: Compared
    names: tuple[str, ...]
    sums: Mapping[str, PatientLosses]
    choice: Choice
    anew: Choices
    measures: tuple[str, ...]

    @property
    def few(self) -> str:
        """Why there are no intervals, "" where there are."""
        patients = len(self.found.names)
        return f"{patients} patients: no interval" if patients < FEW_PATIENTS else ""

    @property
    def one_set(self) -> bool:
        """Whether there is one test set of other patients, not folds that share training patients."""
        return self.schema.validation.split.kind in ("holdout", "time")


def _entry(
    schema: Schema, name: str, facts: Mapping[str, Any], measures: Sequence[str], without: bool
) -> dict[str, Any]:
    """A predictor in the table as it stands before the choice."""
    kind = complexity(schema, name)
    honest = facts["out_of_fold"]
    entry: dict[str, Any] = {
        "predictor": name, "kind": schema.predictors[name].kind, "complexity": kind, "rank": RANKS.index(kind),
    }  # fmt: skip
    if facts["failed_folds"]:
        return entry | {"reason": str(honest["reason"])}
    for key in (*measures, "brier"):
        if key in honest:
            kept = ("value", "low", "high", "interval", "reason", "horizon")
            entry[key] = {part: honest[key][part] for part in kept if part in honest[key]}
    return entry | {"reason": "not ranked: it has no probabilities"} if without else entry


def _rule(schema: Schema) -> str:
    target = schema.target
    what = "log-loss"
    if isinstance(target, SurvivalTarget):
        what = f"log-loss at {target.horizons[-1]:g} {target.unit}s, weighted for censoring,"
    elif not isinstance(target, BinaryTarget):
        what = "log-loss over the classes"
    return (
        f"The lowest mean out-of-fold {what} is the best. Chosen is the simplest predictor ({ORDER}) whose mean paired "
        "difference to the best is at most one standard error of that difference, patients being the unit; among "
        "equally simple ones the lower loss decides."
    )


def _added(found: Compared, losses: Mapping[str, UnitLosses], key: str) -> PatientLosses:
    each = [found.spread(name, getattr(losses[name], key)) for name in losses]
    return patient_losses(np.stack(each), found.code)


def strata(schema: Schema, found: Compared, folds: Sequence[Fold]) -> list[str] | None:
    """Stratum of each patient where groups were left out in turn: a resample then has patients of every group."""
    if schema.validation.split.kind != "leave_one_group_out":
        return None
    home = {patient: fold.name for fold in folds for patient in fold.test}
    return [home[patient] for patient in found.names.tolist()]


def _fill(table: Sequence[dict[str, Any]], judged: _Judged) -> None:
    """Losses, their differences to the best, and intervals of losses, into the entries of the ranked predictors."""
    choice = judged.choice
    kind = FIXED if judged.one_set else CONDITIONAL
    limits = {}
    for key, sums in judged.sums.items():
        with np.errstate(invalid="ignore"):  # of infinite losses
            limits[key] = np.quantile(mean_losses(sums, judged.anew.drawn), [0.025, 0.975], axis=0)
    for k, name in enumerate(judged.names):
        entry = next(one for one in table if one["predictor"] == name)
        infinite = not np.isfinite(choice.loss[k])
        entry |= {
            "loss": _number(choice.loss[k]),
            "difference": _number(choice.difference[k]),
            "se": _number(choice.se[k]),
            "within": bool(choice.within[k]),
            "chosen_share": float(judged.anew.share[k]),
        }
        for key, found in limits.items():
            value = _number(choice.loss[k]) if key == "log_loss" else entry[key]["value"]
            low, high = (None, None) if judged.few else found[:, k]
            entry[key] = metric(value, low=low, high=high, interval=None if judged.few else kind)
            if judged.few:
                entry[key]["reason"] = judged.few
        if infinite:
            entry["log_loss"] = metric(None, reason="infinite: an outcome that occurred was given probability 0")


def _corrected(judged: _Judged, facts: Mapping[str, Any]) -> dict[str, Metric]:
    """Measures of the samples' winners on the patients that were not drawn, corrected for shared training patients."""
    memory: dict[tuple[str, int], dict[str, Float]] = {}

    def discrimination(measure: str, where: str) -> Callable[[int, Float], Float]:
        def of(k: int, weights: Float) -> Float:
            if (where, k) not in memory:  # asked with the same weights for every measure
                memory[where, k] = judged.found.discrimination(judged.names[k], weights)
            return memory[where, k][measure]

        return of

    def additive(sums: PatientLosses) -> Callable[[int, Float], Float]:
        return lambda k, weights: mean_losses(sums, weights)[:, k]

    out: dict[str, Metric] = {}
    for name in judged.measures:
        own = facts["out_of_fold"][name]
        if own.get("value") is None:
            out[name] = metric(None, reason=own.get("reason", "not estimable"))
        else:
            out[name] = _summary(judged, discrimination(name, "left out"), discrimination(name, "drawn"))
    for name, sums in judged.sums.items():
        out[name] = _summary(judged, additive(sums), additive(sums), bounded=name != "log_loss")
    return out


def _summary(
    judged: _Judged,
    left_out: Callable[[int, Float], Float],
    drawn: Callable[[int, Float], Float],
    *,
    bounded: bool = True,
) -> Metric:
    """The corrected value; models of one test set share no training patients with it, so nothing is shared."""
    away = judge_left_out(judged.anew, left_out)
    own = None if judged.one_set else judge_drawn(judged.anew, drawn)
    found = corrected(away, own)
    if found.infinite:
        return metric(None, reason="infinite in some resamples: an outcome that occurred was given probability 0")
    missing = found.failed or None
    if found.value is None:
        why = f"it does not exist in {found.failed} of {len(away)} resamples among the patients not drawn"
        return metric(None, reason=why)

    def limited(value: float | None) -> float | None:
        return value if value is None or not bounded else min(max(value, 0.0), 1.0)

    value, facts = limited(found.value), {"left_out": found.left_out, "drawn": found.drawn}
    if judged.few or found.low is None:
        why = judged.few or f"no interval: it does not exist in {found.failed} of {len(away)} resamples"
        return metric(value, reason=why, not_estimable=missing, **facts)
    low, high = limited(found.low), limited(found.high)
    return metric(value, low=low, high=high, interval=CHOSEN_ANEW, not_estimable=missing, **facts)


def _comparisons(
    judged: _Judged,
    predictors: Mapping[str, Any],
    losses: Mapping[str, UnitLosses],
    rows: Sequence[PredictionRow],
    cohort: Cohort,
    folds: Sequence[Fold],
) -> list[dict[str, Any]]:
    """Every other predictor minus the winner, fold by fold; p-values adjusted by Holm for each measure."""
    winner = judged.names[judged.choice.chosen]
    others = [name for name in judged.names if name != winner]
    main, patients = judged.measures[0], len(judged.found.names)
    out: list[dict[str, Any]] = []
    for measure in (main, "log_loss"):
        entries: list[dict[str, Any]] = []
        for name in others:
            pair = (name, winner)
            if judged.one_set and measure == "auc":
                sets = {n: collect([r for r in rows if r.predictor == n], cohort, folds)[0] for n in pair}
                entries += compare_test_set(pair, sets)
            elif judged.one_set:
                why = "one test set: no test of this measure is made"
                entries.append({"first": name, "second": winner, "measure": measure, "reason": why})
            else:
                values = {n: _by_fold(judged, n, measure, predictors[n], losses[n]) for n in pair}
                entries += compare_folds(pair, measure, values, folds, patients)
        tested = [entry for entry in entries if "p" in entry]
        for entry, p in zip(tested, holm([entry["p"] for entry in tested]), strict=True):
            entry["p_holm"] = float(p)
        for entry in entries:
            entry["better"] = "lower" if measure == "log_loss" else "higher"
        out += entries
    return out


def _by_fold(
    judged: _Judged, name: str, measure: str, facts: Mapping[str, Any], losses: UnitLosses
) -> dict[str, float | None]:
    """Value of every fold, None where it has none."""
    if measure == "log_loss":
        means = {part.fold.name: losses.log[k].mean() for k, part in enumerate(judged.found.parts[name])}
        return {fold: _number(value) for fold, value in means.items()}
    return {fold["fold"]: fold["value"] for fold in facts["out_of_fold"][measure].get("folds", ())}


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
