"""Problems of inputs that are images or radiomics, and of the predictors that read them. Works on the raw data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from osml.schema.document import Key, Problem
from osml.schema.suggest import hint

FILES = ("volume", "image")


def image_problems(data: Mapping[str, Any]) -> Iterator[Problem]:
    """All problems that concern images, radiomics and Rad-scores."""
    inputs, predictors = _blocks(data.get("inputs")), _blocks(data.get("predictors"))
    cohort = data.get("cohort")
    site = cohort.get("site") if isinstance(cohort, dict) else None
    row = cohort.get("row") if isinstance(cohort, dict) else None
    if isinstance(cohort, dict) and cohort.get("position") is not None and row is None:
        yield Problem(("cohort", "position"), "positions are those of tiles, one a row", "Name them in `cohort.row`.")
    for name, block in inputs.items():
        if block.get("several") and row is not None:
            message = "with `cohort.row` every row has its own picture; several are gathered for a patient"
            yield Problem(("inputs", name, "several"), message, "Remove it, or `cohort.row`.")
        if block.get("kind") == "radiomics":
            yield from _radiomics(("inputs", name), block, inputs, site)
    for name, block in predictors.items():
        path: tuple[Key, ...] = ("predictors", name)
        used = [item for item in _list(block, "inputs") if isinstance(item, str)]
        if block.get("kind") == "radscore":
            yield from _radscore(path, block, used, inputs, data)
        if block.get("kind") != "nomogram":
            continue
        for i, item in enumerate(used):
            kind = inputs.get(item, {}).get("kind")
            if kind in (*FILES, "radiomics"):
                message = f"{item!r} is of kind {kind}: a nomogram takes numbers, levels and scores"
                yield Problem(
                    (*path, "inputs", i), message, "Name a predictor of `kind: radscore` here, and its score."
                )


def _radiomics(
    path: tuple[Key, ...], block: Mapping[str, Any], inputs: Mapping[str, dict[str, Any]], site: Any
) -> Iterator[Problem]:
    source = block.get("of")
    if isinstance(source, str):
        images = [name for name, other in inputs.items() if other.get("kind") in FILES]
        if source not in inputs:
            yield Problem((*path, "of"), f"there is no input {source!r}", hint(source, images))
        elif source not in images:
            yield Problem((*path, "of"), f"{source!r} is not a volume or an image", hint(source, images))
        elif inputs[source].get("several"):
            message = f"{source!r} has several pictures of a patient: radiomics describe one"
            yield Problem((*path, "of"), message, "Use an input without `several`.")
        elif "mask" in block:
            yield from _coloured(path, block, inputs[source])
        elif "mask" not in inputs[source]:
            message = f"{source!r} has no mask: radiomics describe a segmented region"
            yield Problem((*path, "of"), message, f"Add `mask: {{column: …}}` to input {source!r}.")
        normalise = block.get("normalise")
        over = normalise.get("over") if isinstance(normalise, dict) else None
        if over == "body" and "body" not in inputs.get(source, {}):
            yield Problem((*path, "normalise", "over"), f"{source!r} has no `body` mask to normalise over")
    if "channels" in block and "mask" not in block:
        yield Problem(
            (*path, "channels"), "channels are those of an H&E picture", "Add `mask: nuclei`, tissue or full."
        )
    for key, choices in (("bins", ("width", "count")), ("stability", ("masks", "perturb"))):
        given = block.get(key)
        if isinstance(given, dict) and sum(choice in given for choice in choices) != 1:
            yield Problem((*path, key), f"give either `{choices[0]}` or `{choices[1]}`")
    if block.get("harmonise") is not None and site is None:
        message = "harmonising needs to know the site of every patient"
        yield Problem((*path, "harmonise"), message, "Name its column in `cohort.site`.")


def _coloured(path: tuple[Key, ...], block: Mapping[str, Any], source: Mapping[str, Any]) -> Iterator[Problem]:
    """Radiomics of an H&E picture: what its masks and channels exclude must not be asked for."""
    if source.get("kind") != "image":
        yield Problem((*path, "mask"), f"full, tissue and nuclei are found in pictures; {block.get('of')!r} is none")
    if "shape" in _list(block, "classes"):
        message = "shape describes one drawn lesion; of nuclei, their sizes and roundness are measured"
        yield Problem((*path, "classes"), message, "Leave shape out.")
    none = ("normalise", "spacing", "regions", "filters", "crop", "leaving", "in_plane", "ibsi", "engine", "stability")
    for key in none:
        if key in block:
            yield Problem((*path, key), f"`{key}` is for a drawn lesion; this one has `mask: {block['mask']}`")


def _radscore(
    path: tuple[Key, ...],
    block: Mapping[str, Any],
    used: list[str],
    inputs: Mapping[str, dict[str, Any]],
    data: Mapping[str, Any],
) -> Iterator[Problem]:
    radiomics = [name for name, other in inputs.items() if other.get("kind") == "radiomics"]
    for i, item in enumerate(used):
        if item in inputs and item not in radiomics:
            message = f"{item!r} is of kind {inputs[item].get('kind')}: a radscore takes radiomics"
            yield Problem((*path, "inputs", i), message, hint(item, radiomics))
        elif item in _blocks(data.get("predictors")):
            yield Problem((*path, "inputs", i), f"{item!r} is a predictor: a radscore takes radiomics")
    if len(used) > 1:
        yield Problem(
            (*path, "inputs"), "one radiomics input", "Make one radscore of each, and feed both to a nomogram."
        )
    validation = data.get("validation")
    if isinstance(validation, dict) and validation.get("inner") == "none":
        message = "features and penalty are chosen on inner folds, but `validation.inner` is none"
        yield Problem(path, message, "Give `inner: {folds: 5}`.")
    target = data.get("target")
    if block.get("score") == "forest" and isinstance(target, dict) and target.get("kind") == "survival":
        yield Problem((*path, "score"), "a forest scores binary targets", "Use `score: linear`.")


def _blocks(value: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(value, dict):
        return {}
    return {str(name): block for name, block in value.items() if isinstance(block, dict)}


def _list(block: Mapping[str, Any], key: str) -> list[Any]:
    value = block.get(key)
    return value if isinstance(value, list) else []
