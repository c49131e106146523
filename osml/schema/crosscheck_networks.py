"""Problems of targets with classes, and of predictors that are networks or stacks. Works on the raw data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from osml.schema.document import Key, Problem
from osml.schema.suggest import hint

CLASSES = ("multiclass", "hierarchy")
IMAGES = ("image", "volume")
MOST_INPUTS = 6
HEADS = {
    "binary": ("flat",),
    "multiclass": ("flat",),
    "hierarchy": ("flat", "tree"),
    "survival": ("cox", "discrete_time"),
}


def network_problems(data: Mapping[str, Any]) -> Iterator[Problem]:
    """All problems that concern classes, networks and stacks."""
    yield from _classes(data)
    inputs, predictors = _blocks(data.get("inputs")), _blocks(data.get("predictors"))
    kind = _blocks({"target": data.get("target")}).get("target", {}).get("kind")
    validation = data.get("validation")
    inner = not (isinstance(validation, dict) and validation.get("inner") == "none")
    for name, block in predictors.items():
        path: tuple[Key, ...] = ("predictors", name)
        if block.get("kind") in ("nomogram", "radscore") and kind in CLASSES:
            message = f"a {block['kind']} predicts a binary or survival target; this one is a {kind}"
            yield Problem(path, message, "Use `kind: network`.")
        if block.get("kind") == "network":
            yield from _network(path, block, inputs, predictors, str(kind), inner)
        if block.get("kind") == "stack":
            yield from _stack(path, block, inputs, predictors, inner)


def _classes(data: Mapping[str, Any]) -> Iterator[Problem]:
    target = data.get("target")
    if not isinstance(target, dict) or target.get("kind") not in CLASSES:
        return
    study = data.get("study")
    if isinstance(study, dict) and study.get("prevalence") is not None:
        message = f"a prevalence moves the risk of one event; a {target['kind']} target has classes"
        yield Problem(("study", "prevalence"), message, "Remove it: probabilities are stated for equal class shares.")
    if data.get("decision") is not None:
        message = f"a decision curve needs a binary or survival target; this one is a {target['kind']}"
        yield Problem(("decision",), message, "Remove this block.")
    classes = [_text(c) for c in _list(target, "classes")]
    for name in sorted({c for c in classes if c is not None and classes.count(c) > 1}):
        yield Problem(("target", "classes"), f"class {name!r} stands twice")
    if "" in classes:
        yield Problem(("target", "classes", classes.index("")), "a class has a name; an empty cell is a missing one")
    tree = target.get("tree")
    if target["kind"] == "hierarchy" and isinstance(tree, list):
        leaves, inner = _nodes(tree)
        partial = target.get("partial")
        for value, node in partial.items() if isinstance(partial, dict) else ():
            path: tuple[Key, ...] = ("target", "partial", value)
            if str(value) in (*leaves, *inner):
                yield Problem(path, f"{value!r} is a node of the tree; its cells are that node already")
            elif _text(node) not in inner:
                yield Problem(path, f"{_text(node)!r} is not an inner node of the tree", hint(_text(node) or "", inner))


def _nodes(tree: list[Any]) -> tuple[list[str], list[str]]:
    leaves: list[str] = []
    inner: list[str] = []
    for item in tree:
        if isinstance(item, dict):
            for name, below in item.items():
                inner.append(str(getattr(name, "text", name)))
                more = _nodes(below if isinstance(below, list) else [])
                leaves += more[0]
                inner += more[1]
        else:
            leaves.append(_text(item) or "")
    return leaves, inner


def _network(
    path: tuple[Key, ...],
    block: Mapping[str, Any],
    inputs: Mapping[str, dict[str, Any]],
    predictors: Mapping[str, Any],
    target: str,
    inner: bool,
) -> Iterator[Problem]:
    used = [item for item in _list(block, "inputs") if isinstance(item, str)]
    for i, item in enumerate(used):
        if item in predictors and item not in inputs:
            message = f"{item!r} is a predictor: a network takes inputs"
            yield Problem((*path, "inputs", i), message, "Combine whole predictors by `kind: stack`.")
        elif inputs.get(item, {}).get("kind") == "volume" and "mask" not in inputs[item]:
            message = f"{item!r} has no mask: a network sees the slices in which the lesion is largest"
            yield Problem((*path, "inputs", i), message, f"Add `mask: {{column: …}}` to input {item!r}.")
        elif inputs.get(item, {}).get("harmonise") is not None:
            yield Problem((*path, "inputs", i), f"{item!r} is harmonised over sites, which only Rad-scores do")
    yield from _named(path, "encoders", block, used, inputs, IMAGES)
    yield from _named(path, "encode", block, used, inputs, ("number", "lab"))
    for item, how in _block(block, "encode").items():
        lab = inputs.get(item, {})
        if how == "kit" and (lab.get("kind") == "number" or (lab.get("kind") == "lab" and "kit" not in lab)):
            message = f"'kit' needs the kit range of {item!r}"
            yield Problem((*path, "encode", item), message, "It is for labs with `kit: {low: …, high: …}`.")
    for item, encoder in _block(block, "encoders").items():
        if isinstance(encoder, dict) and encoder.get("scale") == "native" and encoder.get("tune", "frozen") != "frozen":
            yield Problem((*path, "encoders", item, "scale"), "native is for frozen encoders", "Use `scale: resize`.")
        if isinstance(encoder, dict) and encoder.get("stain"):
            if encoder.get("tune", "frozen") != "frozen":
                message = "stained copies are for frozen encoders: a trained one sees new stains at every step"
                yield Problem((*path, "encoders", item, "stain"), message, "Leave it out.")
            if inputs.get(item, {}).get("orientation") != "free":
                yield Problem((*path, "encoders", item, "stain"), f"{item!r} has no `orientation: free`: it is no H&E")
        if isinstance(encoder, dict) and "rank" in encoder and encoder.get("tune") != "lora":
            yield Problem((*path, "encoders", item, "rank"), "rank is a setting of `tune: lora`")
    head = block.get("head")
    if head is not None and target in HEADS and head not in HEADS[target]:
        message = f"head {head!r} does not fit a {target} target"
        yield Problem((*path, "head"), message, f"Use {' or '.join(HEADS[target])}, or leave it out.")
    weights = _block(block, "node_weights")
    if weights.get("kind") == "uncertainty" and (target != "hierarchy" or head == "flat"):
        yield Problem((*path, "node_weights"), "weights are learnt where a tree has several decisions")
    if "eta" in weights and weights.get("kind") != "uncertainty":
        yield Problem((*path, "node_weights", "eta"), "eta is a constant of `kind: uncertainty`")
    fusion = block.get("fusion", "concat")
    kinds = [inputs.get(item, {}).get("kind") for item in used]
    apart = sum(kind in (*IMAGES, "radiomics") for kind in kinds) + any(k not in (*IMAGES, "radiomics") for k in kinds)
    if "modality_dropout" in block and apart < 2:
        message = "one modality is never hidden: images and radiomics are one each, the rest is one together"
        yield Problem((*path, "modality_dropout"), message, "Leave it out.")
    if "width" in block and fusion == "concat":
        yield Problem((*path, "width"), "width is a setting of gated and film")
    if "head_dropout" in block and fusion != "concat":
        yield Problem((*path, "head_dropout"), "head_dropout is a setting of concat")
    # Values of the table are one vector.
    parts = {"the table" if inputs.get(i, {}).get("kind") not in (*IMAGES, "radiomics") else i for i in used}
    if fusion in ("gated", "film") and len(parts) < 2:
        message = f"{fusion} needs two or more of: an image, radiomics, the table; this predictor has one"
        yield Problem((*path, "fusion"), message)
    yield from _training(path, block, target, inner)
    if block.get("ablation") == "inputs" and len(used) > MOST_INPUTS:
        message = f"{len(used)} inputs have {2 ** len(used) - 2} subsets, each trained in every fold"
        yield Problem((*path, "ablation"), message, f"It is offered for up to {MOST_INPUTS} inputs.")


def _training(path: tuple[Key, ...], block: Mapping[str, Any], target: str, inner: bool) -> Iterator[Problem]:
    train = _block(block, "train")
    if "patience" in train and not inner:
        message = "early stopping needs patients held inside the training fold, but `validation.inner` is none"
        yield Problem((*path, "train", "patience"), message, "Remove it, or give `inner: {folds: 5}`.")
    encoders = _block(block, "encoders").values()
    if "encoder_rate" in train and all(_text(_get(e, "tune")) in (None, "frozen") for e in encoders):
        message = "encoder_rate is for encoders that are tuned; all of this predictor's are frozen"
        yield Problem((*path, "train", "encoder_rate"), message, "Remove it, or give an encoder `tune: lora` or full.")
    tuned = any(e.get("tune", "frozen") != "frozen" for e in _blocks(block.get("encoders")).values())
    if "batch" in train and target == "survival" and block.get("head") != "discrete_time" and not tuned:
        message = "a Cox head on frozen encoders takes all units in one step: its risk sets are whole"
        yield Problem((*path, "train", "batch"), message, "Leave it out.")
    calibrate = block.get("calibrate")
    if calibrate == "platt" and target != "binary":
        yield Problem((*path, "calibrate"), "platt is for binary targets", "Use temperature.")
    if calibrate == "temperature" and target not in CLASSES:
        yield Problem((*path, "calibrate"), f"temperature is for classes; the target is {target}")
    for key in ("calibrate", "abstain"):
        if block.get(key) not in (None, "none") and not inner:
            message = f"{key} learns from inner out-of-fold scores, but `validation.inner` is none"
            yield Problem((*path, key), message, "Give `inner: {folds: 5}`.")
    if block.get("abstain") is not None and target == "survival":
        yield Problem((*path, "abstain"), "prediction sets are of classes")


def _stack(
    path: tuple[Key, ...],
    block: Mapping[str, Any],
    inputs: Mapping[str, dict[str, Any]],
    predictors: Mapping[str, dict[str, Any]],
    inner: bool,
) -> Iterator[Problem]:
    learnt = block.get("method") == "logistic"
    for i, item in enumerate(_list(block, "inputs")):
        if isinstance(item, str) and item in inputs:
            yield Problem((*path, "inputs", i), f"{item!r} is an input: a stack combines predictors")
        elif isinstance(item, str) and predictors.get(item, {}).get("kind") == "radscore" and not learnt:
            message = f"{item!r} is a Rad-score, which has no constant: its mean with other scores means nothing"
            yield Problem((*path, "inputs", i), message, "Use `method: logistic`.")
    if block.get("method") == "logistic" and not inner:
        message = "weights are learnt on inner out-of-fold scores, but `validation.inner` is none"
        yield Problem((*path, "method"), message, "Use `method: mean`.")


def _named(
    path: tuple[Key, ...],
    key: str,
    block: Mapping[str, Any],
    used: list[str],
    inputs: Mapping[str, dict[str, Any]],
    kinds: tuple[str, ...],
) -> Iterator[Problem]:
    for item in _block(block, key):
        if item not in used:
            message = f"{item!r} is not among this predictor's inputs"
            yield Problem((*path, key, item), message, hint(item, used))
        elif inputs.get(item, {}).get("kind") not in (*kinds, None):
            yield Problem((*path, key, item), f"`{key}` is for {' and '.join(kinds)}; {item!r} is none")


def _text(value: Any) -> str | None:
    return str(getattr(value, "text", value)) if isinstance(value, (str, int, float)) else None


def _blocks(value: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(value, dict):
        return {}
    return {str(name): block for name, block in value.items() if isinstance(block, dict)}


def _block(block: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = block.get(key)
    return value if isinstance(value, dict) else {}


def _get(block: Any, key: str) -> Any:
    return block.get(key) if isinstance(block, dict) else None


def _list(block: Mapping[str, Any], key: str) -> list[Any]:
    value = block.get(key)
    return value if isinstance(value, list) else []
