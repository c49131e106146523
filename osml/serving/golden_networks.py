"""Golden cases of networks and stacks: made-up vectors, pictures, cells and scores, and what they were answered with.

Vectors and pictures are made from raw random bits whenever they are needed, so the bundle does not hold them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import Cohort, FeatureTable, ImageTable
from osml.errors import VerificationError
from osml.predictors.contract import Design
from osml.predictors.network import EncoderRecord, FittedNetwork
from osml.predictors.network_inputs import TableSource
from osml.predictors.stack import FittedStack
from osml.serving.encoders import encoder_vectors, made_picture, raw_uniform

Float = NDArray[np.float64]
CASES = 20
PICTURE_CASES = 4  # of an encoder that was trained: every case passes it, for every seed
TOLERANCE = 1e-4
STACK_TOLERANCE = 1e-9
SPREAD = 2.0


def network_cases(fitted: FittedNetwork) -> dict[str, Any]:
    """Made-up units, the network's outputs and probabilities for them, and vectors of its frozen encoders."""
    outputs, p = _answers(fitted)
    frozen = [name for name, record in fitted.encoders.items() if record.embedding is not None]
    return {
        "outputs": outputs.tolist(),
        "p": p.tolist(),
        "encoders": {name: frozen_vectors(fitted.encoders[name]) for name in frozen},
    }


def replay_network(name: str, fitted: FittedNetwork, stored: Mapping[str, Any]) -> None:
    """Raise VerificationError where a loaded network says something else of its made-up units."""
    outputs, p = _answers(fitted)
    gap = max(_gap(outputs, stored["outputs"], relative=True), _gap(p, stored["p"]))
    _refuse(name, gap, TOLERANCE)


def stack_cases(fitted: FittedStack) -> dict[str, Any]:
    """Made-up scores and their probabilities."""
    return {"p": fitted.predict(_stack_design(fitted)).p.tolist()}


def replay_stack(name: str, fitted: FittedStack, stored: Mapping[str, Any]) -> None:
    """Raise VerificationError where a loaded stack says something else of its made-up scores."""
    _refuse(name, _gap(fitted.predict(_stack_design(fitted)).p, stored["p"]), STACK_TOLERANCE)


def network_design(fitted: FittedNetwork) -> Design:
    """The made-up units: a fifth of them lacks one modality, another fifth single values."""
    n = CASES if all(source.width is not None for source in fitted.images.values()) else PICTURE_CASES
    names = tuple(f"case {i + 1}" for i in range(n))
    values: dict[str, Float] = {}
    kit: dict[str, tuple[Float, Float]] = {}
    features: dict[str, FeatureTable] = {}
    images: dict[str, ImageTable] = {}
    for k, source in enumerate(fitted.sources):
        # Each modality is absent in one case of five, never all of them in the same.
        here = np.array([len(fitted.sources) == 1 or i % 5 != 4 or i // 5 % len(fitted.sources) != k for i in range(n)])
        if isinstance(source, TableSource):
            drawn = _columns(source, n, here, k)
            if source.kind == "radiomics":
                features[source.name] = FeatureTable(source.features, np.column_stack(list(drawn.values())))
                continue
            values |= drawn
            kit |= {
                code.column.name: (np.zeros(n), np.ones(n)) for code in source.code.columns if code.column.kind == "kit"
            }
            continue
        row = np.flatnonzero(here)
        images[source.key] = ImageTable(
            _vectors_or_pictures(fitted, source.name, len(row), k), np.arange(len(row)), row
        )
    cohort = Cohort(names, names, np.zeros(n, dtype=np.intp), values, kit, {}, None, features=features, images=images)
    return Design(cohort)


def _answers(fitted: FittedNetwork) -> tuple[Float, Float]:
    from osml.predictors.network_outputs import risks

    outputs = fitted.outputs(network_design(fitted))[0].mean(axis=0)
    return outputs, risks(fitted, outputs)[0]


def _columns(source: TableSource, n: int, here: NDArray[np.bool_], k: int) -> dict[str, Float]:
    out = {}
    names = source.features if source.kind == "radiomics" else tuple(c.column.name for c in source.code.columns)
    for j, (name, code) in enumerate(zip(names, source.code.columns, strict=True)):
        u = raw_uniform(7919 * (k + 1) + j, n)
        kind = code.column.kind
        if kind == "binary":
            x = np.floor(2 * u)
        elif kind == "category":
            x = np.floor(code.column.levels * u)
        elif kind == "standard":
            x = code.centre + code.scale * SPREAD * (2 * u - 1)
        else:
            x = 2 * u * (code.column.divide if kind == "divide" else 1.0)
        gone = (np.arange(n) % 5 == 3) & (np.arange(n) // 5 % max(2, len(names)) == j % 4) & (len(names) > 1)
        out[name] = np.where(here & ~gone, x, np.nan)
    return out


def _vectors_or_pictures(fitted: FittedNetwork, name: str, n: int, k: int) -> NDArray[Any]:
    source, record = fitted.images[name], fitted.encoders[name]
    if source.width is not None:
        from osml.nets.embeddings import EmbeddingSettings

        views = EmbeddingSettings(**(record.embedding or {})).for_prediction().views
        drawn = raw_uniform(104729 + k, n * views * source.width).reshape(n, views, source.width)
        if source.centre:  # as far from the training pictures as cells are from the training patients
            drawn = np.array(source.centre) + np.array(source.spread) * SPREAD * (2 * drawn - 1)
        return drawn.astype(np.float32)
    from osml.nets.images import stored_size

    side = stored_size(fitted.built_encoders[name].size)
    return np.stack([made_picture(10 + k + i, side) for i in range(n)]).transpose(0, 3, 1, 2)


def frozen_vectors(record: EncoderRecord) -> list[list[float]]:
    """What a frozen encoder makes of the made-up pictures, six digits of each number."""
    from osml.nets.encoders import EncoderSettings, rebuild_encoder
    from osml.nets.weights import WeightsRecord

    encoder = rebuild_encoder(WeightsRecord(**record.weights), EncoderSettings(**record.settings))
    return [[float(f"{x:.6g}") for x in row] for row in encoder_vectors(encoder).tolist()]


def _stack_design(fitted: FittedStack) -> Design:
    from osml.evaluation.tree import node_probabilities

    names = tuple(f"case {i + 1}" for i in range(CASES))
    scores: dict[str, Float] = {}
    for k, name in enumerate(fitted.names):
        if fitted.tree is None:
            scores[name] = 3.0 * (2 * raw_uniform(k, CASES) - 1)
            continue
        leaves = 0.01 + raw_uniform(k, CASES * len(fitted.tree.leaves)).reshape(CASES, -1)
        p = node_probabilities(fitted.tree, leaves / leaves.sum(axis=1, keepdims=True))
        scores[name] = np.log(p)
    return Design(Cohort(names, names, np.zeros(CASES, dtype=np.intp), {}, {}, {}, None), scores)


def _gap(found: Float, stored: Any, *, relative: bool = False) -> float:
    expected = np.asarray(stored, dtype=np.float64)
    if found.shape != expected.shape:
        return float("inf")
    scale = 1 + np.abs(expected) if relative else 1.0
    return float(np.max(np.abs(found - expected) / scale))


def _refuse(name: str, gap: float, allowed: float) -> None:
    if not gap <= allowed:
        raise VerificationError(
            f"the model of {name!r} does not reproduce its golden cases: they differ by up to {gap:.3g}, "
            f"{allowed:g} is allowed",
            do="Do not use this bundle; make it again from its run.",
        )
