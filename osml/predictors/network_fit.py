"""Fitting the predictor `network`: inner folds for epochs and calibration, then independent seeds on all units.

Everything that is learnt, standardisation included, is learnt from the training units of the fold at hand. Inner folds
hold patients whole; with `inner: none` the recipe is fixed before the run and nothing is calibrated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import BinaryOutcome, ClassOutcome, Cohort, SurvivalOutcome
from osml.cohort.splits import Fold, inner_folds
from osml.errors import NotEstimableError
from osml.features.images import image_plan
from osml.nets.calibrate import fit_platt, fit_temperature, prediction_sets
from osml.nets.device import choose_device
from osml.nets.encoders import Encoder, build_encoder
from osml.nets.label_tree import flatten, leaf_labels
from osml.nets.losses import FollowUp, Labels, Truth
from osml.nets.network import Network, build_network
from osml.nets.recipe import ClassTarget, CoxTarget, DiscreteTimeTarget, NetworkRecipe, Target, TrainRecipe, preset
from osml.nets.survival import interval_cuts
from osml.nets.train import Checkpoints, Trained, predict, train
from osml.nets.weights import find_weights
from osml.predictors.contract import Design
from osml.predictors.network import Calibration, EncoderRecord, FittedNetwork, Sets, TargetKind
from osml.predictors.network_inputs import ImageSource, modality, sources_of, stores
from osml.predictors.network_outputs import log_odds, share_offset
from osml.schema.model import Schema
from osml.schema.networks import NetworkPredictor
from osml.stats.cox import baseline_hazard, fit_cox
from osml.stats.tree import LabelTree, label_tree

Float = NDArray[np.float64]


@dataclass(frozen=True)
class _Task:
    """What is to be learnt: the outcome as the network takes it.

    rows : units that can be trained on; a flat head cannot use a label that stops at an inner node
    """

    kind: TargetKind
    target: Target
    truth: Truth
    rows: NDArray[np.intp]
    tree: LabelTree | None


def fit_network(
    schema: Schema, name: str, design: Design, seed: np.random.SeedSequence, *, work: Path | None = None
) -> FittedNetwork:
    """Fit the network `name` to training units.

    work : folder where unfinished training is stored and continued; none: nothing is kept
    """
    block, cohort = schema.networks()[name], design.cohort
    task = _task(block, cohort)
    kept = cohort.take(task.rows)
    recipe = _train_recipe(schema, block, kept)
    fold_seed, train_seed = seed.spawn(2)
    numbers = [int(s) for s in train_seed.generate_state(block.seeds)]
    device = choose_device()
    inner = schema.validation.inner
    held: _HeldOut | None = None
    if inner != "none" and (recipe.patience is not None or block.calibrate != "none" or block.abstain is not None):
        folds = inner_folds(kept, inner.folds, fold_seed)
        held = _held_out(schema, name, task, kept, folds, recipe, numbers, device, work)
        if recipe.patience is not None:
            recipe = replace(recipe, patience=None, epochs=held.epochs)
    sources = sources_of(schema, name, kept)
    truth = task.truth.take(task.rows)
    networks, trained = [], []
    for k, number in enumerate(numbers):
        network, source = _built(schema, name, task.target, sources, kept, number, device)
        place = None if work is None else Checkpoints(work / f"training-{k}")
        every = np.arange(len(kept))
        trained.append(train(network, source, truth, every, recipe, seed=number, device=device, checkpoints=place))
        networks.append(network.cpu())
    outcome = cohort.outcome
    fitted = FittedNetwork(
        name=name,
        target=task.kind,
        columns=_columns(task, outcome),
        tree=task.tree,
        horizons=outcome.horizons if isinstance(outcome, SurvivalOutcome) else (),
        time_unit=outcome.unit if isinstance(outcome, SurvivalOutcome) else "",
        sources=sources,
        encoders={s.name: _record(schema, name, s.name) for s in sources if isinstance(s, ImageSource)},
        recipe=networks[0].recipe,
        networks=tuple(networks),
        calibration=Calibration("none"),
        epochs=tuple(t.epoch + 1 for t in trained),
        share=float(outcome.y.mean()) if isinstance(outcome, BinaryOutcome) else None,
        history=tuple({"seed": k, **_history(t)} for k, t in enumerate(trained)),
    )
    return _calibrated(schema, block, fitted, task, kept, held)


@dataclass(frozen=True)
class _HeldOut:
    """Inner out-of-fold outputs.

    outputs : (n, outputs), mean over the seeds; NaN where a unit's fold could not be trained
    epochs : median over folds and seeds of the epochs until the inner loss was lowest
    """

    outputs: Float
    epochs: int


def _held_out(
    schema: Schema,
    name: str,
    task: _Task,
    cohort: Cohort,
    folds: tuple[Fold, ...],
    recipe: TrainRecipe,
    numbers: list[int],
    device: str,
    work: Path | None,
) -> _HeldOut:
    patients = np.array(cohort.patients, dtype=object)
    truth = task.truth.take(task.rows)
    outputs = np.full((len(cohort), task.target.outputs), np.nan)
    epochs = []
    for fold in folds:
        inside = np.flatnonzero(np.isin(patients, np.array(fold.train, dtype=object)))
        outside = np.flatnonzero(np.isin(patients, np.array(fold.test, dtype=object)))
        sources = sources_of(schema, name, cohort.take(inside))
        found = []
        for k, number in enumerate(numbers):
            network, source = _built(schema, name, task.target, sources, cohort, number, device)
            trained = train(
                network, source, truth, inside, recipe, seed=number, device=device,
                inner=outside if recipe.patience is not None else None,
                checkpoints=None if work is None else Checkpoints(work / f"inner-{fold.index}-{k}"),
            )  # fmt: skip
            epochs.append(trained.epoch + 1)
            found.append(predict(network, source, outside, device=device).outputs)
        outputs[outside] = np.mean(found, axis=0)
    return _HeldOut(outputs, max(1, int(np.median(epochs))))


def _task(block: NetworkPredictor, cohort: Cohort) -> _Task:
    outcome, n = cohort.outcome, len(cohort)
    if isinstance(outcome, SurvivalOutcome):
        target: Target = CoxTarget()
        if block.head == "discrete_time":
            target = DiscreteTimeTarget(interval_cuts(outcome.time, outcome.event, horizons=outcome.horizons))
        return _Task("survival", target, FollowUp(outcome.time, outcome.event), np.arange(n), None)
    if isinstance(outcome, BinaryOutcome):
        tree = label_tree([outcome.negative, outcome.positive])
        return _Task("binary", ClassTarget(tree), Labels(outcome.y.astype(np.intp)), np.arange(n), tree)
    if not isinstance(outcome, ClassOutcome):
        raise NotEstimableError("a predictor cannot be fitted to patients without outcomes")
    tree, node, rows = outcome.tree, outcome.node, np.arange(n)
    own = tree
    if block.head == "flat":
        leaf = leaf_labels(tree, node)
        own, rows, node = flatten(tree), np.flatnonzero(leaf >= 0), np.maximum(leaf, 0)
    weights = block.node_weights
    return _Task("classes", ClassTarget(own, weights.kind, weights.eta), Labels(node), rows, tree)


def _train_recipe(schema: Schema, block: NetworkPredictor, cohort: Cohort) -> TrainRecipe:
    tuned = any(encoder.tune != "frozen" for encoder in block.encoders.values())
    given = {key: value for key, value in block.train.model_dump(exclude={"preset"}).items() if value is not None}
    recipe = preset(block.train.preset or ("fine-tune" if tuned else "embeddings"), **given)
    if isinstance(cohort.outcome, SurvivalOutcome) and block.head != "discrete_time" and not tuned:
        recipe = replace(recipe, batch=None)  # the risk set is whole
    return replace(recipe, patience=None) if schema.validation.inner == "none" else recipe


def _built(
    schema: Schema, name: str, target: Target, sources: Any, cohort: Cohort, number: int, device: str
) -> tuple[Network, Any]:
    """An untrained network on these sources, and the data of a cohort."""
    block = schema.networks()[name]
    encoders: dict[str, Encoder] = {}
    for source in sources:
        if isinstance(source, ImageSource) and source.width is None:
            encoders[source.name] = build_encoder(image_plan(schema, name, source.name).settings(), seed=number)
    modalities = tuple(
        modality(s, block.reduce, encoders[s.name].width if s.name in encoders else None) for s in sources
    )
    recipe = NetworkRecipe(
        modalities, target, fusion=block.fusion, width=block.width, dropout=block.dropout,
        head_dropout=block.head_dropout, modality_dropout=block.modality_dropout if len(modalities) > 1 else 0.0,
    )  # fmt: skip
    network = build_network(recipe, encoders or None, seed=number)
    return network, stores(sources, cohort, encoders, device)


def _record(schema: Schema, name: str, image: str) -> EncoderRecord:
    plan = image_plan(schema, name, image)
    settings = plan.settings()
    weights = find_weights(settings.timm_name, settings.weights).record
    facts = {**asdict(settings), "weights": None}  # found again by its hash, not by a path
    return EncoderRecord(facts, asdict(plan.embedding()) if plan.frozen else None, weights.as_json())


def _columns(task: _Task, outcome: Any) -> tuple[str, ...]:
    if isinstance(outcome, SurvivalOutcome):
        return tuple(f"{h:g} {outcome.unit}" for h in outcome.horizons)
    assert task.tree is not None
    return (outcome.positive,) if task.kind == "binary" else task.tree.nodes


def _history(trained: Trained) -> Mapping[str, Any]:
    return {
        "loss": [e.train_loss for e in trained.epochs],
        "node_weights": [list(e.node_weights) for e in trained.epochs][-1],
    }


def _calibrated(
    schema: Schema, block: NetworkPredictor, fitted: FittedNetwork, task: _Task, cohort: Cohort, held: _HeldOut | None
) -> FittedNetwork:
    """With calibration, baseline and prediction sets, all from inner out-of-fold outputs where there are any."""
    good = np.flatnonzero(np.isfinite(held.outputs).all(axis=1)) if held is not None else np.empty(0, dtype=np.intp)
    truth = task.truth.take(task.rows)
    if isinstance(truth, FollowUp):
        return _survival(fitted, truth, held, good, cohort)
    target = task.target
    assert isinstance(target, ClassTarget)
    offset = share_offset(target.tree, truth.node)
    wanted = block.calibrate != "none" and held is not None
    reason = "" if wanted else "no inner folds" if schema.validation.inner == "none" else "not asked for"
    if task.kind == "binary":
        calibration = Calibration("none", offset=(offset[1] - offset[0],), reason=reason)
        if wanted and held is not None:
            try:
                found = fit_platt(log_odds(held.outputs[good]), truth.node[good])
                calibration = Calibration("platt", (found.intercept, found.slope))
            except NotEstimableError as error:
                calibration = replace(calibration, reason=error.what)
    else:
        restated = schema.study.sampling != "cohort"
        calibration = Calibration("none", offset=offset, restated=restated, reason=reason)
        if wanted and held is not None:
            try:
                scale = fit_temperature(target.tree, held.outputs[good] + np.array(offset), truth.node[good])
                calibration = replace(calibration, kind="temperature", values=scale.temperatures)
            except NotEstimableError as error:
                calibration = replace(calibration, reason=error.what)
    fitted = replace(fitted, calibration=calibration)
    if block.abstain is None or held is None:
        return fitted
    return replace(fitted, sets=_sets(schema, block.abstain, fitted, task, held.outputs[good], good, cohort))


def _sets(
    schema: Schema,
    miss: float,
    fitted: FittedNetwork,
    task: _Task,
    outputs: Float,
    good: NDArray[np.intp],
    cohort: Cohort,
) -> Sets:
    from osml.predictors.network_outputs import risks

    assert task.tree is not None
    labels = task.truth.take(task.rows)
    assert isinstance(labels, Labels)
    p, _ = risks(fitted, outputs)
    _, own = fitted.class_probabilities(p)
    tree = task.target.tree if isinstance(task.target, ClassTarget) else task.tree
    leaf = leaf_labels(tree, labels.node[good])
    full = leaf >= 0
    patients = np.array(cohort.patients, dtype=object)[good][full].astype(str)
    found = prediction_sets(own[full], leaf[full], patients, miss=miss, by_class=schema.study.sampling != "cohort")
    return Sets(tuple(float(t) for t in found.thresholds), miss, tuple(int(m) for m in found.patients))


def _survival(
    fitted: FittedNetwork, truth: FollowUp, held: _HeldOut | None, good: NDArray[np.intp], cohort: Cohort
) -> FittedNetwork:
    if isinstance(fitted.recipe.target, DiscreteTimeTarget):
        return replace(fitted, calibration=Calibration("none", reason="hazards of intervals are used as they are"))
    if held is not None and len(good):
        lp, known = held.outputs[good, 0], truth.take(good)
        slope = float(fit_cox(lp[:, None], known.time, known.event).coef[0])
        calibration = Calibration("slope", (slope,))
        if slope <= 0:
            calibration = Calibration("slope", (0.0,), reason="out-of-fold scores do not go with the event: no slope")
        lp = lp * calibration.values[0]
    else:
        # Those of the training units are overfitted: risks come out too far from the average, which the reason says.
        each, _ = fitted.outputs(Design(cohort))
        lp, known = each.mean(axis=0)[:, 0], truth
        calibration = Calibration("none", reason="no inner folds: the baseline rests on the training units' own scores")
    baseline = baseline_hazard(lp, known.time, known.event).at(np.array(fitted.horizons))
    return replace(fitted, calibration=calibration, baseline=tuple(float(h) for h in baseline))


__all__ = ["fit_network"]
