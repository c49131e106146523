"""What each input adds: the same network with fewer inputs, on the same folds."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

from osml.cohort.cohort import Cohort
from osml.errors import OsmlError
from osml.predictors.chain import Chain, fit_chain
from osml.runs.store import PredictionRow
from osml.schema.model import FileInput, Schema

Rows = Callable[[Chain, str], list[PredictionRow]]


def ablations(schema: Schema, name: str) -> dict[str, tuple[str, ...]]:
    """Subsets of a network's inputs to train beside it: `name[a+b]` → inputs; empty for other kinds.

    modalities: the images alone, and the rest alone; inputs: every subset that is not empty and not whole.
    """
    block = schema.networks().get(name)
    if block is None or block.ablation == "none" or len(block.inputs) < 2:
        return {}
    if block.ablation == "inputs":
        subsets = [part for k in range(1, len(block.inputs)) for part in combinations(block.inputs, k)]
    else:
        images = tuple(item for item in block.inputs if isinstance(schema.inputs[item], FileInput))
        rest = tuple(item for item in block.inputs if item not in images)
        subsets = [part for part in (images, rest) if part and part != block.inputs]
    return {f"{name}[{'+'.join(part)}]": part for part in subsets}


def reduced(schema: Schema, name: str, inputs: tuple[str, ...], called: str) -> Schema:
    """The schema with one predictor: the network with these inputs only, under another name."""
    block = schema.networks()[name]
    kept = set(inputs)
    changes = {
        "inputs": inputs,
        "encoders": {item: encoder for item, encoder in block.encoders.items() if item in kept},
        "encode": {item: how for item, how in block.encode.items() if item in kept},
        "fusion": block.fusion if len(inputs) > 1 else "concat",
        "ablation": "none",
    }
    return schema.model_copy(update={"predictors": {called: block.model_copy(update=changes)}})


def run_ablation(
    schema: Schema, name: str, train: Cohort, seed: tuple[int, int, int], folder: Path, rows: Rows
) -> tuple[list[PredictionRow], dict[str, str]]:
    """Out-of-fold predictions of every smaller network in one fold, and why some have none: none ends the others.

    folder : where unfinished training is kept
    rows : from a fitted chain and its name to rows of the test units
    """
    out: list[PredictionRow] = []
    failed: dict[str, str] = {}
    for called, inputs in ablations(schema, name).items():
        less = reduced(schema, name, inputs, called)
        try:
            out += rows(fit_chain(less, called, train, seed, work=folder / "unfinished" / called), called)
        except OsmlError as error:
            failed[called] = error.what
    return out, failed
