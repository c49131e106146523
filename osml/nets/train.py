"""The training loop, and prediction with what it trained.

Everything random comes from (seed, epoch): the order of rows, augmentation, dropout and hidden modalities. A run that
was killed and continued is therefore the run that was not, bit for bit on a CPU.
"""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from osml.errors import ConvergenceError, InvalidInputError, OsmlError, VerificationError
from osml.nets.batches import Source, epoch_batches, row_tensor
from osml.nets.branches import Items
from osml.nets.checkpoint import State, put_tensors, read_state, write_state
from osml.nets.device import one_thread
from osml.nets.losses import FollowUp, Labels, Objective, Truth
from osml.nets.network import Network, Outputs
from osml.nets.recipe import TrainRecipe, recipe_to_json
from osml.nets.spread import Spread, launch
from osml.nets.training_state import Epoch, TrainingState, epochs_of, rate_factor

PREDICT_BATCH = 256
Rows = NDArray[np.intp]
Make = Callable[[str], tuple[Network, Source]]


@dataclass(frozen=True)
class Trained:
    """What training found; the network itself now holds the weights of `epoch`.

    epochs : every epoch that was run
    epoch : the one whose weights are used: the best on the inner rows, else the last
    """

    epochs: tuple[Epoch, ...]
    epoch: int


@dataclass(frozen=True)
class Predicted:
    """Outputs for rows, in their order.

    outputs : float64 array (n, target.outputs)
    weights : float64 array (n, k), gate weights; None without a gate
    present : bool array (n, k)
    untrained : bool array (n,), rows that lack a modality that no training row lacked: their output leans on a token
        that nothing has trained
    """

    outputs: NDArray[np.float64]
    weights: NDArray[np.float64] | None
    present: NDArray[np.bool_]
    untrained: NDArray[np.bool_]


@dataclass(frozen=True)
class Checkpoints:
    """Where an unfinished training is stored, and after how many seconds again (0 = after every epoch)."""

    folder: Path
    every_s: float = 60.0


def train(
    network: Network,
    source: Source,
    truth: Truth,
    rows: Rows,
    recipe: TrainRecipe,
    *,
    seed: int,
    inner: Rows | None = None,
    device: str = "cpu",
    checkpoints: Checkpoints | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    devices: int = 1,
    make: Make | None = None,
) -> Trained:
    """Train a network in place.

    Parameters
    ----------
    network : as `build_network` made it
    source : data of all rows, on `device`
    truth : labels or follow-up of all rows of the source
    rows : training rows; class weights come from these alone
    inner : rows of patients held inside the training fold, for early stopping; None = the recipe's epochs are all run
    checkpoints : continue what is stored there, and store; None = nothing is written
    on_epoch : called after each epoch; what it raises ends the training, which can be continued. On one device only
    devices : of the kind of `device`, for one training: each encodes its share of every batch's pictures. The result
        differs from that of one device by rounding, where the encoder has no dropout or batch statistics of its own.
        Networks of vectors and tables, which train in seconds, use one
    make : for several devices: a function that can be sent to another process, and makes this network and source anew
        on a device

    Raises
    ------
    InvalidInputError
        Rows of inner and training overlap, patience without inner rows or the reverse.
    ConvergenceError
        The loss is no longer finite.
    """
    _check(source, truth, rows, inner, recipe)
    given = _Given(truth, rows, recipe, seed, inner, checkpoints)
    if devices > 1 and len(network.encoders):
        if on_epoch is not None or make is None:
            raise InvalidInputError("several devices need `make`, and tell of no epoch")
        return _train_spread(network, given, device, devices, make)
    with one_thread():
        return _train(network, source, given, device, on_epoch)


@dataclass(frozen=True)
class _Given:
    """What a training is of; see `train`."""

    truth: Truth
    rows: Rows
    recipe: TrainRecipe
    seed: int
    inner: Rows | None
    checkpoints: Checkpoints | None

    def fingerprint(self, network: Network) -> str:
        """Hash of all that decides the result, the frozen tensors of encoders and the pictures left out."""
        return _fingerprint(network, self.truth, self.rows, self.inner, self.recipe, self.seed)


def _train_spread(network: Network, given: _Given, device: str, devices: int, make: Make) -> Trained:
    """Train in one process per device; weights come back in files."""
    with tempfile.TemporaryDirectory(prefix="osml-") as name:
        folder, fingerprint = Path(name), given.fingerprint(network)
        launch(devices, device, partial(_train_part, make=make, given=given, fingerprint=fingerprint, folder=folder))
        state = read_state(folder, fingerprint)
    assert state is not None
    put_tensors(network, state.tensors)
    network.to(device)
    network.tune_encoders(True)
    network.eval()
    return Trained(epochs_of(state.facts), state.facts["epoch"])


def _train_part(part: Spread, make: Make, given: _Given, fingerprint: str, folder: Path) -> OsmlError | None:
    """The work of one device; all end in the same epoch, for the same reason."""
    network, source = make(part.device)
    if given.fingerprint(network) != fingerprint:
        return VerificationError("a process of this training made another network than the one to be trained")
    try:
        with one_thread():
            found = _train(network, source, given, part.device, None, part)
    except OsmlError as error:
        return error
    if part.rank == 0:
        facts = {"epoch": found.epoch, "epochs": [asdict(epoch) for epoch in found.epochs]}
        write_state(folder, State(dict(network.trained()), facts), fingerprint)
    return None


def _train(
    network: Network,
    source: Source,
    given: _Given,
    device: str,
    on_epoch: Callable[[Epoch], None] | None,
    part: Spread | None = None,
) -> Trained:
    truth, rows, recipe, seed = given.truth, given.rows, given.recipe, given.seed
    inner, checkpoints = given.inner, given.checkpoints
    network.to(device)
    objective = Objective(network.recipe.target, truth.take(rows)).to(device)
    run = TrainingState(network, objective, recipe)
    fingerprint = given.fingerprint(network) if checkpoints else ""
    if checkpoints is not None:
        stored = read_state(checkpoints.folder, fingerprint)
        if stored is not None:
            run.restore(stored)
        if part is not None:
            part.together()  # all have read before one writes
    last_write = time.monotonic()
    while len(run.epochs) < recipe.epochs and not run.stopped:
        number = len(run.epochs)
        loss = _one_epoch(run, source, truth, rows, recipe, seed, number, device, part)
        held_out = None
        if inner is not None:
            with run.weights_in_use():
                held_out = _held_out(network, objective, source, truth, inner, recipe, device, part)
        epoch = run.close_epoch(Epoch(number, loss, held_out, _node_weights(objective)))
        finished = run.stopped or number + 1 == recipe.epochs
        if part is not None and part.rank > 0:
            continue
        if checkpoints is not None and (finished or time.monotonic() - last_write >= checkpoints.every_s):
            write_state(checkpoints.folder, run.state(), fingerprint)
            last_write = time.monotonic()
        if on_epoch is not None:
            on_epoch(epoch)
    put_tensors(network, run.final())
    network.tune_encoders(True)
    network.eval()
    return Trained(tuple(run.epochs), run.best_epoch if inner is not None else len(run.epochs) - 1)


def predict(
    network: Network,
    source: Source,
    rows: Rows,
    *,
    device: str = "cpu",
    batch: int = PREDICT_BATCH,
    bf16: bool = False,
    part: Spread | None = None,
) -> Predicted:
    """Outputs for rows, in evaluation mode; each row's output depends on that row alone.

    part : of a training over several devices, all of which call this
    """
    network.to(device).eval()
    outputs, weights, present = [], [], []
    with one_thread(), torch.inference_mode():
        for start in range(0, len(rows), batch):
            some = rows[start : start + batch]
            with _mixed(device, bf16):
                out = _outputs(network, source.batch(row_tensor(some, device), None), len(some), part)
            outputs.append(out.outputs.double().cpu().numpy())
            present.append(out.present.cpu().numpy())
            if out.weights is not None:
                weights.append(out.weights.double().cpu().numpy())
    here = np.concatenate(present) if present else np.empty((0, len(network.recipe.names)), dtype=bool)
    return Predicted(
        np.concatenate(outputs) if outputs else np.empty((0, network.recipe.target.outputs)),
        np.concatenate(weights) if weights else None,
        here,
        (~here & network.untrained_absence.cpu().numpy()).any(axis=1),
    )


def _outputs(network: Network, batch: dict[str, Items], n: int, part: Spread | None) -> Outputs:
    return network(batch, n) if part is None else part.forward(network, batch, n)


def _one_epoch(
    run: TrainingState,
    source: Source,
    truth: Truth,
    rows: Rows,
    recipe: TrainRecipe,
    seed: int,
    number: int,
    device: str,
    part: Spread | None,
) -> float:
    """One pass over the training rows; the mean loss of its steps."""
    run.network.tune_encoders(number >= recipe.encoder_from)
    run.network.train()
    batches = epoch_batches(len(rows), recipe.batch, seed, number)
    with _seeded(seed, number, device) as generator:
        losses = []
        for k, positions in enumerate(batches):
            some = rows[positions]
            with _mixed(device, recipe.bf16):
                out = _outputs(run.network, source.batch(row_tensor(some, device), generator), len(some), part)
            loss = run.objective(out.outputs, truth.take(some))
            run.step(loss, rate_factor(recipe, number, (k + 1) / len(batches)), part)
            losses.append(loss.detach())
    mean = float(torch.stack(losses).mean())
    if part is not None:
        part.level(run.network)
        mean = part.agreed(mean)
    if not math.isfinite(mean):
        raise ConvergenceError(
            f"the training loss is {mean} in epoch {number + 1}",
            why="Weights that are no longer numbers predict nothing.",
            do="Lower `rate`, set `clip`, or look for extreme values among the inputs.",
        )
    return mean


def _held_out(
    network: Network,
    objective: Objective,
    source: Source,
    truth: Truth,
    inner: Rows,
    recipe: TrainRecipe,
    device: str,
    part: Spread | None,
) -> float:
    """Loss on the inner rows, all at once, so that a Cox risk set is whole."""
    found = predict(network, source, inner, device=device, bf16=recipe.bf16, part=part)
    outputs = torch.as_tensor(found.outputs, dtype=torch.float32, device=device)
    loss = float(objective.held_out(outputs, truth.take(inner)))
    if part is not None:
        loss = part.agreed(loss)
    if not math.isfinite(loss):
        raise ConvergenceError(f"the loss on the inner rows is {loss}", do="Lower `rate` or set `clip`.")
    return loss


def _check(source: Source, truth: Truth, rows: Rows, inner: Rows | None, recipe: TrainRecipe) -> None:
    if len(truth) != len(source):
        raise InvalidInputError(f"{len(truth)} labels for {len(source)} rows")
    if len(rows) == 0:
        raise InvalidInputError("no training rows")
    if (inner is None) != (recipe.patience is None):
        raise InvalidInputError(
            f"patience is {recipe.patience} and there are {'no' if inner is None else len(inner)} inner rows",
            why="Early stopping needs patients held inside the training fold, and they serve nothing else.",
            do="Set `patience: null` for a fixed number of epochs, or hold patients out.",
        )
    if inner is None:
        return
    both = np.intersect1d(rows, inner)
    if len(both) or len(inner) == 0:
        raise InvalidInputError(f"{len(inner)} inner rows, of which {len(both)} are training rows, too")
    held = truth.take(inner)
    if isinstance(held, FollowUp) and not held.event.any():
        raise InvalidInputError(f"no events among the {len(inner)} inner rows, so there is no loss to stop by")


def _fingerprint(network: Network, truth: Truth, rows: Rows, inner: Rows | None, recipe: TrainRecipe, seed: int) -> str:
    recipes = [recipe_to_json(network.recipe), recipe_to_json(recipe), seed]
    digest = hashlib.sha256(json.dumps(recipes, sort_keys=True).encode())
    arrays = [truth.node] if isinstance(truth, Labels) else [truth.time, truth.event]
    for array in [*arrays, rows, np.empty(0) if inner is None else inner]:
        digest.update(np.ascontiguousarray(array).tobytes())
    for name, tensor in network.trained():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@contextmanager
def _seeded(seed: int, epoch: int, device: str) -> Iterator[torch.Generator]:
    """Torch's global generators set by (seed, epoch) and put back afterwards, and a generator for augmentation."""
    words = np.random.SeedSequence([seed, epoch, 1]).generate_state(2, np.uint32)
    here = torch.device(device)
    devices = [here] if here.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(int(words[0]))
        yield torch.Generator(device).manual_seed(int(words[1]))


def _mixed(device: str, bf16: bool) -> torch.autocast:
    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16, enabled=bf16 and kind == "cuda")


def _node_weights(objective: Objective) -> tuple[float, ...]:
    if objective.node_weights is None:
        return ()
    return tuple(float(w) for w in torch.exp(-objective.node_weights.log_variance.detach()))
