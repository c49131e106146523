"""Fit the predictor `autogluon`: models bagged over the inner folds of patients, weighted, calibrated, packed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import BinaryOutcome, ClassOutcome, Cohort
from osml.cohort.splits import Fold, inner_folds
from osml.errors import NotEstimableError
from osml.nets.label_tree import leaf_labels
from osml.predictors.autogluon import FittedAutogluon
from osml.predictors.autogluon_calibration import Recalibration, Scaling, recalibrated
from osml.predictors.autogluon_files import import_tabular, logged, pack, versions
from osml.predictors.autogluon_frame import fit_frame
from osml.predictors.autogluon_importance import importance
from osml.predictors.autogluon_portfolio import OVERRIDES, REFIT, portfolio
from osml.predictors.contract import Design
from osml.predictors.table import fit_table
from osml.schema.autogluon import AutogluonPredictor
from osml.schema.model import Schema

if TYPE_CHECKING:
    from pandas import DataFrame

Float = NDArray[np.float64]
LABEL, GROUPS = "y", "bag"
ENSEMBLE = "WeightedEnsemble"


@dataclass(frozen=True)
class _Task:
    """What AutoGluon is taught.

    rows : units that it learns from (n,)
    y : their class among `learnt`, 0 to k - 1, (n,)
    bag : the inner fold that holds each out, (n,)
    learnt : positions of the classes among all of them
    shares : of all classes among the units with a whole label
    rare : classes that are not learnt, and why
    """

    rows: NDArray[np.intp]
    y: NDArray[np.intp]
    bag: NDArray[np.intp]
    learnt: tuple[int, ...]
    shares: tuple[float, ...]
    rare: Mapping[str, str]

    @property
    def problem(self) -> Literal["binary", "multiclass"]:
        """In AutoGluon's words."""
        return "binary" if len(self.learnt) == 2 else "multiclass"


def fit_autogluon(
    schema: Schema, name: str, design: Design, seed: np.random.SeedSequence, *, work: Path | None = None
) -> FittedAutogluon:
    """Fit AutoGluon to training units, one core, offline.

    Without `time_limit` the same design and seed give the same predictions; with it, how many models are fitted depends
    on the machine.

    Parameters
    ----------
    work : folder on whose disk AutoGluon writes while it works; none: the temporary one. Nothing stays there.

    Raises
    ------
    NotEstimableError
        Fewer than two patients of some class are left, or no model could be fitted.
    MissingExtraError
        AutoGluon is not installed.
    """
    block = schema.predictors[name]
    assert isinstance(block, AutogluonPredictor)
    import_tabular()
    fold_seed, model_seed, shuffle_seed = seed.spawn(3)
    task = _task(schema, design.cohort, fold_seed)
    kept = Design(design.cohort.take(task.rows), {key: score[task.rows] for key, score in design.upstream.items()})
    table = fit_table(schema, name, kept)
    matrix = table.matrix(kept)
    frame = fit_frame(table, matrix)
    if work is not None:
        work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="osml-", dir=work) as folder, logged() as log:
        number = int(model_seed.generate_state(1)[0] >> 1)
        trained = _train(block, task, frame.make(matrix), number, Path(folder))
        shuffled = importance(
            trained.predictor, trained.weights, frame, frame.make(matrix), task.y, task.bag, shuffle_seed
        )
        files = trained.files(Path(folder))
    outcome = design.cohort.outcome
    scaling: Scaling = "platt" if isinstance(outcome, BinaryOutcome) else "temperature"
    calibration = Recalibration("none", reason="not asked for")
    if block.calibrate:
        calibration = recalibrated(trained.held_out, task.y, task.bag, scaling)
    facts = {
        "presets": block.presets,
        "time_limit": block.time_limit,
        "memory_limit": block.memory_limit,
        **trained.facts,
        "importance": shuffled,
        "calibration": asdict(calibration),
        "rare": dict(task.rare),
        "inner_folds": int(task.bag.max()) + 1,
        "versions": versions(),
        "overrides": [asdict(one) for one in OVERRIDES],
    }
    tree = outcome.tree if isinstance(outcome, ClassOutcome) else None
    return FittedAutogluon(
        name=name,
        target="binary" if tree is None else "classes",
        columns=(outcome.positive,) if isinstance(outcome, BinaryOutcome) else tree.nodes if tree is not None else (),
        tree=tree,
        frame=frame,
        learnt=task.learnt,
        shares=task.shares,
        calibration=calibration,
        restated=tree is not None and schema.study.sampling != "cohort",
        versions=versions(),
        files=files,
        facts=facts,
        log=log.getvalue(),
    )


@dataclass(frozen=True)
class _Trained:
    """AutoGluon after its fit, while its folder exists.

    weights : of the base models in the ensemble, those of 0 left out
    held_out : out-of-fold probabilities of the training units, (n, classes)
    """

    predictor: Any
    weights: Mapping[str, float]
    held_out: Float
    facts: Mapping[str, Any]

    def files(self, folder: Path) -> dict[str, bytes]:
        """Those that prediction needs: no training data, no unused model; equal models give equal bytes."""
        from osml.predictors.autogluon_timeless import timeless

        place = folder / "deployed"
        self.predictor.clone_for_deployment(str(place))
        return timeless(pack(place), folder)


def _train(block: AutogluonPredictor, task: _Task, x: DataFrame, seed: int, folder: Path) -> _Trained:
    tabular = import_tabular()
    models = portfolio(block.presets, task.problem)
    with _memory(block.memory_limit):
        predictor = tabular(
            label=LABEL, problem_type=task.problem, eval_metric="log_loss", path=str(folder / "work"), verbosity=2,
            groups=GROUPS, positive_class=1 if task.problem == "binary" else None,
        ).fit(
            x.assign(**{LABEL: task.y, GROUPS: task.bag}),
            time_limit=block.time_limit, hyperparameters=models,
            num_bag_folds=int(task.bag.max()) + 1, num_bag_sets=1, num_stack_levels=0, auto_stack=False,
            dynamic_stacking=False, use_bag_holdout=False, calibrate=False, calibrate_decision_threshold=False,
            hyperparameter_tune_kwargs=None, feature_prune_kwargs=None, refit_full=False,
            num_cpus=1, num_gpus=0, fit_strategy="sequential", memory_limit=block.memory_limit,
            ag_args_ensemble={"fold_fitting_strategy": "sequential_local", "model_random_seed": seed,
                              "vary_seed_across_folds": True},
            raise_on_no_models_fitted=False,
        )  # fmt: skip
        failures = _failures(predictor)
        if not predictor.model_names():
            words = "; ".join(f"{f['model']}: {f['reason']}" for f in failures[:3]) or "the time was too short"
            raise NotEstimableError(
                f"AutoGluon fitted no model: {words}", do="Give a longer `time_limit` or a larger `memory_limit`."
            )
        best = predictor.model_best
        held_out = predictor.predict_proba_oof(best)[list(range(len(task.learnt)))].to_numpy(dtype=np.float64)
        weights = {best: 1.0}
        if best.startswith(ENSEMBLE):
            weights = {m: float(w) for m, w in predictor._trainer.load_model(best)._get_model_weights().items() if w}
        board = _leaderboard(predictor, weights)
        if block.presets in REFIT:
            predictor.refit_full(model="best", set_best_to_refit_full=True)
    planned = sum(len(several) for several in models.values())
    facts = {
        "leaderboard": board,
        "failures": failures,
        "planned": planned,
        "not_reached": max(0, planned - sum(row["role"] == "model" for row in board) - len(failures)),
        "refit": block.presets in REFIT,
    }
    return _Trained(predictor, weights, held_out / held_out.sum(axis=1, keepdims=True), facts)


def _leaderboard(predictor: Any, weights: Mapping[str, float]) -> list[dict[str, Any]]:
    """Its models by their log-loss on the rows held out of their bags, best first."""
    rows = predictor.leaderboard(display=False).to_dict("records")
    return [
        {
            "model": row["model"].removesuffix("_BAG_L1"),
            "role": "ensemble" if row["model"].startswith(ENSEMBLE) else "model",
            "log_loss": -float(row["score_val"]),
            "weight": None if row["model"].startswith(ENSEMBLE) else weights.get(row["model"], 0.0),
            "fit_s": round(float(row["fit_time_marginal"]), 2),
        }
        for row in rows
    ]


def _failures(predictor: Any) -> list[dict[str, str]]:
    """Models that were tried and not fitted, with the first line of the reason."""
    words = {"TimeLimitExceeded": "no time was left", "NotEnoughMemoryError": "it needs more than `memory_limit`"}
    return [
        {
            "model": str(row["model"]).removesuffix("_BAG_L1"),
            "kind": str(row["exc_type"]),
            "reason": words.get(row["exc_type"]) or (str(row["exc_str"]).strip().splitlines() or ["no reason"])[0],
        }
        for row in predictor.model_failures().to_dict("records")
    ]


@contextmanager
def _memory(limit: float) -> Iterator[None]:
    """AutoGluon keeps its limit in the environment, where a later fit would find it."""
    name = "AG_MEMORY_LIMIT_IN_GB"
    before = os.environ.get(name)
    os.environ[name] = str(limit)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before


def _task(schema: Schema, cohort: Cohort, seed: np.random.SeedSequence) -> _Task:
    outcome = cohort.outcome
    names: tuple[str, ...]
    if isinstance(outcome, BinaryOutcome):
        names, label = (outcome.negative, outcome.positive), outcome.y.astype(np.intp)
    elif isinstance(outcome, ClassOutcome):
        names, label = outcome.tree.leaves, leaf_labels(outcome.tree, outcome.node)
    else:
        raise NotEstimableError("AutoGluon learns events and classes; it has no objective for censored times")
    patients = np.array(cohort.patients, dtype=object)
    whole = np.flatnonzero(label >= 0)
    shares = np.bincount(label[whole], minlength=len(names)) / max(1, len(whole))
    people = [len(set(patients[label == k])) for k in range(len(names))]
    rare = {names[k]: _rare(people[k]) for k in range(len(names)) if people[k] < 2}
    enough = [k for k in range(len(names)) if people[k] >= 2]
    rows = whole[np.isin(label[whole], enough)]
    _require_classes(enough, names, people)
    bag = _bags(schema, cohort.take(rows), min(people[k] for k in enough), seed)
    # Rows of a class may lie in one bag only although several patients have it: that bag's models never meet it.
    spread = {k: len(set(bag[label[rows] == k].tolist())) for k in enough}
    rare |= {names[k]: "all its rows lie in one inner fold" for k in enough if spread[k] < 2}
    learnt = tuple(k for k in enough if spread[k] >= 2)
    _require_classes(learnt, names, people)
    here = np.isin(label[rows], learnt)
    rows, bag = rows[here], np.unique(bag[here], return_inverse=True)[1]
    y = np.searchsorted(learnt, label[rows])
    return _Task(rows, y.astype(np.intp), bag.astype(np.intp), learnt, tuple(float(s) for s in shares), rare)


def _rare(people: int) -> str:
    return "no training patient has it" if people == 0 else "one training patient has it"


def _require_classes(kept: Any, names: tuple[str, ...], people: list[int]) -> None:
    if len(kept) < 2:
        counts = ", ".join(f"{name} {n}" for name, n in zip(names, people, strict=True))
        raise NotEstimableError(
            f"AutoGluon needs two classes with two training patients each; there are: {counts}",
            why="Its models are bagged: of every class some patient has to be held out, and some to learn from.",
        )


def _bags(schema: Schema, cohort: Cohort, smallest: int, seed: np.random.SeedSequence) -> NDArray[np.intp]:
    """The inner fold that holds each unit out: patients whole, copies of a resampled patient together."""
    inner = schema.validation.inner
    wanted = 5 if inner == "none" else inner.folds
    patients = len(cohort.patient_ids)
    # Binary: an event and a non-event in every fold. Classes: as many folds as asked, rare ones are in some.
    most = min(patients, smallest) if cohort.has_event else patients
    folds: tuple[Fold, ...] = inner_folds(cohort, max(2, min(wanted, most)), seed)
    place = {patient: k for k, fold in enumerate(folds) for patient in fold.test}
    return np.array([place[patient] for patient in cohort.patients], dtype=np.intp)
