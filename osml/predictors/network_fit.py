"""Fitting the predictor `network`: inner folds for epochs and calibration, then independent seeds on all units.

Everything that is learnt, standardisation included, is learnt from the training units of the fold at hand. Inner folds
hold patients whole; with `inner: none` the recipe is fixed before the run and nothing is calibrated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import BinaryOutcome, ClassOutcome, Cohort, SurvivalOutcome
from osml.cohort.splits import Fold
from osml.errors import InvalidInputError, NotEstimableError
from osml.features.images import image_plan
from osml.nets.calibrate import fit_platt, fit_temperature, prediction_sets
from osml.nets.device import choose_device, choose_devices
from osml.nets.encoders import Encoder, build_encoder
from osml.nets.label_tree import flatten, leaf_labels
from osml.nets.losses import FollowUp, Labels, Truth
from osml.nets.network import Network, build_network
from osml.nets.recipe import ClassTarget, CoxTarget, DiscreteTimeTarget, NetworkRecipe, Target, TrainRecipe, preset
from osml.nets.survival import interval_cuts
from osml.nets.train import Checkpoints, Trained, predict, train
from osml.predictors.contract import Design
from osml.predictors.inner import fold_rows, training_folds, why_none
from osml.predictors.network import Calibration, FittedNetwork, Sets, TargetKind, encoder_record
from osml.predictors.network_inputs import ImageSource, modality, sources_of, stores
from osml.predictors.network_outputs import log_odds, share_offset
from osml.predictors.search import Found, Report, Values, search
from osml.predictors.search_network import network_loss, network_spans, with_values
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
    fold_seed, train_seed, search_seed = seed.spawn(3)
    numbers = [int(s) for s in train_seed.generate_state(block.seeds)]
    device = choose_device()
    devices = choose_devices(device)
    folds = training_folds(schema, kept, fold_seed)
    wanted = block.calibrate != "none" or block.abstain is not None
    searched = None
    if block.search is not None and folds:
        inner = _Inner(schema, name, task, kept, numbers, device, devices)
        searched = _searched(inner, folds, recipe, block.search.trials, search_seed, work)
        schema = with_values(schema, name, searched.values)
        block = schema.networks()[name]
        recipe = _train_recipe(schema, block, kept)
    inner = _Inner(schema, name, task, kept, numbers, device, devices)
    if recipe.patience is not None:
        epochs = inner.epochs(folds, recipe, None if work is None else work / "epochs")
        # Where no inner fold can be trained, the recipe's own number is as good as any.
        recipe = replace(recipe, patience=None, epochs=int(np.median(epochs)) if epochs else recipe.epochs)
    held = inner.outputs(folds, recipe, None if work is None else work / "inner") if folds and wanted else None
    sources = sources_of(schema, name, kept)
    truth = task.truth.take(task.rows)
    networks, trained, centres = [], [], []
    for k, number in enumerate(numbers):
        network, source = _built(schema, name, task.target, sources, kept, number, device)
        place = None if work is None else Checkpoints(work / f"training-{k}")
        every = np.arange(len(kept))
        trained.append(
            train(
                network, source, truth, every, recipe, seed=number, device=device, checkpoints=place,
                devices=devices, make=partial(_built, schema, name, task.target, sources, kept, number),
            )
        )  # fmt: skip
        if isinstance(task.target, CoxTarget):
            centres.append(float(predict(network, source, every, device=device).outputs.mean()))
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
        encoders={s.name: encoder_record(schema, name, s.name) for s in sources if isinstance(s, ImageSource)},
        recipe=networks[0].recipe,
        networks=tuple(networks),
        calibration=Calibration("none"),
        epochs=tuple(t.epoch + 1 for t in trained),
        share=float(outcome.y.mean()) if isinstance(outcome, BinaryOutcome) else None,
        centres=tuple(centres),
        history=tuple({"seed": k, **_history(t)} for k, t in enumerate(trained)),
        search=None if searched is None else searched.record(),
    )
    return _calibrated(schema, block, fitted, task, kept, held)


@dataclass(frozen=True)
class _Inner:
    """Training in inner folds; what cannot be learnt in one of them ends no other."""

    schema: Schema
    name: str
    task: _Task
    cohort: Cohort
    numbers: list[int]
    device: str
    devices: int

    def epochs(self, folds: tuple[Fold, ...], recipe: TrainRecipe, work: Path | None) -> list[int]:
        """Epochs until the loss on the held-out patients was lowest, of every fold and seed that could be trained."""
        return [trained.epoch + 1 for _, _, found in self.trained(folds, recipe, work) for trained, _ in found]

    def outputs(self, folds: tuple[Fold, ...], recipe: TrainRecipe, work: Path | None) -> Float:
        """Outputs of networks that were trained without the unit's patient, (n, outputs), mean over the seeds.

        NaN where its fold could not be trained. A Cox output is measured from the mean of its network's training units.
        """
        out = np.full((len(self.cohort), self.task.target.outputs), np.nan)
        for inside, outside, found in self.trained(folds, recipe, work):
            each = []
            for _, (network, source) in found:
                output = predict(network, source, outside, device=self.device).outputs
                if isinstance(self.task.target, CoxTarget):
                    output = output - predict(network, source, inside, device=self.device).outputs.mean()
                each.append(output)
            out[outside] = np.mean(each, axis=0)
        return out

    def trained(self, folds: tuple[Fold, ...], recipe: TrainRecipe, work: Path | None) -> Iterator[Any]:
        """Rows inside and outside, (training, (network, data)) of each seed, of every fold that can be learnt from."""
        truth = self.task.truth.take(self.task.rows)
        for fold in folds:
            inside, outside = fold_rows(self.cohort, fold)
            found = []
            try:
                sources = sources_of(self.schema, self.name, self.cohort.take(inside))
                for k, number in enumerate(self.numbers):
                    make = partial(_built, self.schema, self.name, self.task.target, sources, self.cohort, number)
                    network, source = make(self.device)
                    trained = train(
                        network, source, truth, inside, recipe, seed=number, device=self.device,
                        inner=outside if recipe.patience is not None else None,
                        checkpoints=None if work is None else Checkpoints(work / f"{fold.index}-{k}"),
                        devices=self.devices, make=make,
                    )  # fmt: skip
                    found.append((trained, (network, source)))
            except (NotEstimableError, InvalidInputError):  # a lab that nobody has, no event, nothing that varies
                continue
            yield inside, outside, found


def _searched(
    inner: _Inner,
    folds: tuple[Fold, ...],
    recipe: TrainRecipe,
    trials: int,
    seed: np.random.SeedSequence,
    work: Path | None,
) -> Found:
    """Settings with the lowest loss over the inner folds, each trained anew with them."""
    truth = inner.task.truth.take(inner.task.rows)

    def evaluate(values: Values, report: Report) -> float:
        schema = with_values(inner.schema, inner.name, values)
        one = replace(inner, schema=schema)
        total = count = 0.0
        trained = one.trained(folds, _train_recipe(schema, schema.networks()[inner.name], inner.cohort), None)
        for k, (inside, outside, found) in enumerate(trained):
            rows = np.concatenate([inside, outside]) if isinstance(truth, FollowUp) else outside
            outputs = np.zeros((len(inner.cohort), inner.task.target.outputs))
            outputs[rows] = np.mean([predict(n, s, rows, device=inner.device).outputs for _, (n, s) in found], axis=0)
            loss, weight = network_loss(inner.task.target, truth, outputs, inside, outside)
            total, count = total + loss, count + weight
            if k + 1 < len(folds):
                report(total / max(count, 1.0))
        if count == 0:
            raise NotEstimableError("no inner fold can be learnt from")
        return total / count

    spans, default = network_spans(inner.schema, inner.name, recipe)
    number = int(seed.generate_state(1)[0])
    file = None if work is None else work / "search.json"
    return search(spans, default, evaluate, trials=trials, seed=number, file=file)


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
    schema: Schema, block: NetworkPredictor, fitted: FittedNetwork, task: _Task, cohort: Cohort, held: Float | None
) -> FittedNetwork:
    """With calibration, baseline and prediction sets, all from inner out-of-fold outputs where there are any."""
    if held is not None and not np.isfinite(held).all(axis=1).any():
        held = None
    good = np.flatnonzero(np.isfinite(held).all(axis=1)) if held is not None else np.empty(0, dtype=np.intp)
    truth = task.truth.take(task.rows)
    if isinstance(truth, FollowUp):
        return _survival(fitted, truth, held, good, cohort, _no_calibration(schema, block))
    target = task.target
    assert isinstance(target, ClassTarget)
    offset = share_offset(target.tree, truth.node)
    wanted = block.calibrate != "none" and held is not None
    reason = "" if wanted else _no_calibration(schema, block)
    if task.kind == "binary":
        calibration = Calibration("none", offset=(offset[1] - offset[0],), reason=reason)
        if wanted and held is not None:
            try:
                found = fit_platt(log_odds(held[good]), truth.node[good])
                calibration = Calibration("platt", (found.intercept, found.slope))
            except NotEstimableError as error:
                calibration = replace(calibration, reason=error.what)
    else:
        restated = schema.study.sampling != "cohort"
        calibration = Calibration("none", offset=offset, restated=restated, reason=reason)
        if wanted and held is not None:
            try:
                scale = fit_temperature(target.tree, held[good], truth.node[good], offset)
                calibration = replace(calibration, kind="temperature", values=scale.temperatures)
            except NotEstimableError as error:
                calibration = replace(calibration, reason=error.what)
    fitted = replace(fitted, calibration=calibration)
    if block.abstain is None or held is None:
        return fitted
    return replace(fitted, sets=_sets(schema, block.abstain, fitted, task, held[good], good, cohort))


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


def _no_calibration(schema: Schema, block: NetworkPredictor) -> str:
    asked = block.calibrate != "none" or schema.validation.inner == "none"
    return why_none(schema) if asked else "not asked for"


def _survival(
    fitted: FittedNetwork,
    truth: FollowUp,
    held: Float | None,
    good: NDArray[np.intp],
    cohort: Cohort,
    reason: str,
) -> FittedNetwork:
    if isinstance(fitted.recipe.target, DiscreteTimeTarget):
        return replace(fitted, calibration=Calibration("none", reason="hazards of intervals are used as they are"))
    if held is not None:
        lp, known = held[good, 0], truth.take(good)
        slope, why = _slope(lp, known)
        calibration, lp = Calibration("slope", (slope,), reason=why), lp * slope
    else:
        # Those of the training units are overfitted: risks come out too far from the average, which the reason says.
        each, _ = fitted.outputs(Design(cohort))
        lp, known = each.mean(axis=0)[:, 0], truth
        calibration = Calibration("none", reason=f"{reason}: the baseline rests on the training units' own scores")
    baseline = baseline_hazard(lp, known.time, known.event).at(np.array(fitted.horizons))
    return replace(fitted, calibration=calibration, baseline=tuple(float(h) for h in baseline))


def _slope(lp: Float, known: FollowUp) -> tuple[float, str]:
    """Slope of out-of-fold log hazards, not below 0, and why it is not estimated."""
    try:
        slope = float(fit_cox(lp[:, None], known.time, known.event).coef[0])
    except NotEstimableError as error:
        return 1.0, f"no slope: {error.what}"
    return (slope, "") if slope > 0 else (0.0, "out-of-fold scores do not go with the event")
