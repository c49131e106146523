"""Problems of whole slides: the target `region`, its predictors, and scores of bundles. Works on the raw data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from osml.schema.document import Key, Problem
from osml.schema.suggest import hint

# Cells of a map along a tile, as `osml.predictors.slide_recipe` cuts them.
CELLS = 8
_SCORE = "Fit a study with `target: {kind: region}`, and name its bundle in an input of `kind: score`."


def slide_problems(data: Mapping[str, Any]) -> Iterator[Problem]:
    """All problems that concern slides, regions and scores."""
    inputs, predictors = _blocks(data.get("inputs")), _blocks(data.get("predictors"))
    target = data.get("target")
    region = isinstance(target, dict) and target.get("kind") == "region"
    slides = [name for name, block in inputs.items() if block.get("kind") == "slide"]
    if region:
        assert isinstance(target, dict)
        yield from _target(target, inputs, slides)
        yield from _study(data, inputs)
    for name, block in inputs.items():
        if block.get("kind") == "score":
            yield from _score(("inputs", name), block, inputs, slides, data.get("times"))
    for name, block in predictors.items():
        path: tuple[Key, ...] = ("predictors", name)
        kind = block.get("kind")
        if kind == "slide" and not region and target is not None:
            yield Problem((*path, "kind"), "a slide predictor needs a region target", "Use `target: {kind: region}`.")
        elif kind == "slide":
            yield from _predictor(path, block, data, slides)
        elif region and kind is not None:
            message = f"a {kind} does not predict regions of slides"
            yield Problem(
                (*path, "kind"), message, "Use `kind: slide`; other predictors take its scores (`kind: score`)."
            )
        else:
            for i, item in enumerate(_list(block, "inputs")):
                if item in slides:
                    yield Problem(
                        (*path, "inputs", i), f"{item!r} is a whole slide, which a {kind} does not read", _SCORE
                    )


def _target(target: Mapping[str, Any], inputs: Mapping[str, Any], slides: list[str]) -> Iterator[Problem]:
    of = target.get("of")
    if isinstance(of, str) and of not in inputs:
        yield Problem(("target", "of"), f"there is no input {of!r}", hint(of, slides or inputs))
    elif isinstance(of, str) and of not in slides:
        yield Problem(("target", "of"), f"{of!r} is not of kind slide", "Regions are drawn on whole slides.")
    classes = target.get("classes")
    codes = [str(code) for code in classes] if isinstance(classes, dict) else []
    seen: dict[str, str] = {}
    for code, block in classes.items() if isinstance(classes, dict) else ():
        colour = block.get("colour") if isinstance(block, dict) else None
        if isinstance(colour, str) and (other := seen.setdefault(colour.lower(), str(code))) != str(code):
            message = f"{colour} is the colour of {other!r} as well: masks could not tell the two apart"
            yield Problem(("target", "classes", code, "colour"), message, "Give every class its own.")
    necrosis = target.get("necrosis")
    if not isinstance(necrosis, dict) or not codes:
        return
    side_of: dict[str, str] = {}
    for side in ("viable", "necrotic"):
        for i, code in enumerate(_list(necrosis, side)):
            path: tuple[Key, ...] = ("target", "necrosis", side, i)
            if not isinstance(code, str):
                continue
            if code not in codes:
                yield Problem(path, f"there is no class {code!r}", hint(code, codes))
            elif code == codes[0]:
                yield Problem(path, f"{code!r} is the background: the first of `classes`", "Glass is no tumour bed.")
            elif code in side_of:
                message = f"{code!r} is {side_of[code]} already; a class counts once"
                yield Problem(path, message, "Decide on one side.")
            side_of.setdefault(code, side)


def _study(data: Mapping[str, Any], inputs: Mapping[str, dict[str, Any]]) -> Iterator[Problem]:
    """Blocks that would load and then do nothing."""
    cohort = data.get("cohort")
    if isinstance(cohort, dict) and cohort.get("row") is None:
        message = "a region study has one row per slide"
        yield Problem(("cohort",), message, "Name the column of the slide's name in `cohort.row`.")
    if isinstance(cohort, dict) and cohort.get("position") is not None:
        yield Problem(("cohort", "position"), "positions are those of tiles; slides are cut by osml", "Remove it.")
    if data.get("decision") is not None:
        yield Problem(("decision",), "a decision curve needs the risk of an event; regions have none", "Remove it.")
    if data.get("missing") == "impute":
        message = "nothing is imputed in a region study: a slide is there or is not"
        yield Problem(("missing",), message, "Remove it.")
    study, validation, report = (_block(data, key) for key in ("study", "validation", "report"))
    if study.get("prevalence") is not None:
        yield Problem(
            ("study", "prevalence"), "a prevalence moves the risk of one event; regions have none", "Remove it."
        )
    if validation.get("optimism") is not None:
        message = "the bootstrap is offered for nomograms"
        yield Problem(("validation", "optimism"), message, "Held-out patients are the estimate here.")
    for key in ("compare", "adds", "select"):
        if report.get(key):
            message = f"`report.{key}` is for predictors of patients; refiners are compared in every region study"
            yield Problem(("report", key), message, "Remove it.")
    if data.get("predictors") == "auto":
        yield Problem(("predictors",), "there are no plans for region studies", "Write a predictor of `kind: slide`.")
    for name, block in inputs.items():
        if block.get("kind") not in ("slide", None):
            message = f"{name!r} is of kind {block['kind']}: a region study reads slides only"
            yield Problem(("inputs", name, "kind"), message, "Remove it.")


def _predictor(
    path: tuple[Key, ...], block: Mapping[str, Any], data: Mapping[str, Any], slides: list[str]
) -> Iterator[Problem]:
    of = _block(data, "target").get("of")
    used = [item for item in _list(block, "inputs") if isinstance(item, str)]
    for i, item in enumerate(used):
        if item in slides and isinstance(of, str) and of in slides and item != of:
            yield Problem((*path, "inputs", i), f"{item!r} is not the slide that is annotated, {of!r}", f"Name {of!r}.")
    for item in _block(block, "encoders"):
        if item not in used:
            yield Problem((*path, "encoders", item), f"{item!r} is not among this predictor's inputs", hint(item, used))
    tile = _block(block, "tile")
    size, stride = tile.get("size_um", 128.0), tile.get("stride_um", 128.0)
    if _number(size) and _number(stride) and stride > size:
        message = f"tiles of {size:g} µm every {stride:g} µm leave tissue that nobody looks at"
        yield Problem((*path, "tile"), message, "Let `stride_um` be `size_um` or less.")
    elif _number(size) and _number(stride) and size > 0 and not _whole(stride * CELLS / size):
        message = f"tiles of {size:g} µm every {stride:g} µm do not begin at cells of the map"
        yield Problem((*path, "tile"), message, f"Let `stride_um` be a multiple of {size / CELLS:g} µm.")
    if _block(data, "validation").get("inner") == "none":
        message = "the length of training and the refiner are chosen on inner folds, but `validation.inner` is none"
        yield Problem(path, message, "Give `inner: {folds: 3}`.")


def _score(
    path: tuple[Key, ...], block: Mapping[str, Any], inputs: Mapping[str, Any], slides: list[str], times: Any
) -> Iterator[Problem]:
    of = block.get("of")
    known, slide = block.get("available"), inputs.get(of, {}).get("available") if isinstance(of, str) else None
    if isinstance(times, list) and known in times and slide in times and times.index(known) < times.index(slide):
        message = f"known at {known}, but its slides are known at {slide} only"
        yield Problem((*path, "available"), message, f"Write {slide}.")
    if isinstance(of, str) and of not in slides:
        message = f"{of!r} is not of kind slide" if of in inputs else f"there is no input {of!r}"
        yield Problem(
            (*path, "of"), message, "A score is what a bundle says of slides: name an input of `kind: slide`."
        )


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _whole(value: float) -> bool:
    return abs(value - round(value)) < 1e-6


def _blocks(value: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(value, dict):
        return {}
    return {str(name): block for name, block in value.items() if isinstance(block, dict)}


def _block(block: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = block.get(key)
    return value if isinstance(value, dict) else {}


def _list(block: Mapping[str, Any], key: str) -> list[Any]:
    value = block.get(key)
    return value if isinstance(value, list) else []
