"""Names that must lead somewhere: inputs of predictors, times, terms, codes. Works on the raw data, so that these
problems are reported together with the type errors of the same file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from osml.codes import BY_CODE
from osml.schema.crosscheck_autogluon import autogluon_problems
from osml.schema.crosscheck_images import image_problems
from osml.schema.crosscheck_networks import CLASSES, network_problems
from osml.schema.crosscheck_slides import slide_problems
from osml.schema.crosscheck_tabular import tabular_problems
from osml.schema.document import Key, Problem
from osml.schema.model import AUTO
from osml.schema.suggest import hint

_FOLDER_NAME = re.compile(r"[^\W_][\w.-]*")
UNANSWERED = "?"
UNANSWERED_MESSAGE = "still to be answered ('?')"


_YEARS = ("year", "years", "yr", "a")


def cross_check(data: Mapping[str, Any]) -> list[Problem]:
    """All problems that concern more than one key of the document."""
    found = (
        _questions(data),
        _times(data),
        _namespace(data),
        _columns(data),
        _predictors(data),
        _named_predictors(data),
        _prevalence(data),
        image_problems(data),
        network_problems(data),
        tabular_problems(data),
        autogluon_problems(data),
        slide_problems(data),
        _rest(data),
    )
    return [problem for problems in found for problem in problems]


def _block(data: Mapping[str, Any], *path: str) -> dict[str, Any]:
    here: Any = data
    for part in path:
        here = here.get(part) if isinstance(here, dict) else None
    return here if isinstance(here, dict) else {}


def _list(block: Mapping[str, Any], key: str) -> list[Any]:
    value = block.get(key)
    return value if isinstance(value, list) else []


def _questions(data: Mapping[str, Any]) -> list[Problem]:
    """Every "?" that waits for an answer; the first one says why."""
    found = list(_unanswered(data, ()))
    why = "Only somebody who knows the study can; osml does not guess."
    return [Problem(p.path, p.message, why if i == 0 else "") for i, p in enumerate(found)]


def _unanswered(value: Any, path: tuple[Key, ...]) -> Iterator[Problem]:
    if _holds_cells(path):
        return
    if value == UNANSWERED:
        yield Problem(path, UNANSWERED_MESSAGE)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _unanswered(item, (*path, key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _unanswered(item, (*path, i))


def _holds_cells(path: tuple[Key, ...]) -> bool:
    """Where '?' is the text of a cell: missing tokens, levels, groups."""
    inside_input = len(path) == 4 and path[0] == "inputs" and path[2] in ("levels", "groups")
    return inside_input or (len(path) == 3 and path[:2] == ("cohort", "missing"))


def _times(data: Mapping[str, Any]) -> Iterator[Problem]:
    times = data.get("times")
    if not isinstance(times, list) or not all(isinstance(t, str) for t in times):
        return
    if len(set(times)) != len(times):
        yield Problem(("times",), "the same time stands twice")
    moment = data.get("time_of_prediction")
    if isinstance(moment, str) and moment not in (*times, UNANSWERED):
        yield Problem(("time_of_prediction",), f"{moment!r} is not one of `times`", hint(moment, times))
    for name, block in _block(data, "inputs").items():
        available = block.get("available") if isinstance(block, dict) else None
        if isinstance(available, str) and available not in (*times, UNANSWERED):
            yield Problem(("inputs", name, "available"), f"{available!r} is not one of `times`", hint(available, times))


def _namespace(data: Mapping[str, Any]) -> Iterator[Problem]:
    inputs, predictors = _block(data, "inputs"), _block(data, "predictors")
    if "inputs" in data and not inputs and isinstance(data["inputs"], dict):
        yield Problem(("inputs",), "no input is given")
    if "predictors" in data and not predictors and isinstance(data["predictors"], dict):
        yield Problem(("predictors",), "no predictor is given")
    for name in predictors:
        if not _FOLDER_NAME.fullmatch(name):
            rule = "Use letters, digits, '_', '-' and '.', beginning with a letter or digit."
            yield Problem(("predictors", name), f"{name!r} cannot name a folder", rule)
        if name in inputs:
            shared = "Inputs and predictors share one set of names; rename one of them."
            yield Problem(("predictors", name), f"{name!r} is also an input", shared)
    for name, block in inputs.items():
        if not isinstance(block, dict):
            continue
        levels = block.get("levels")
        if isinstance(levels, list):
            texts = [str(getattr(level, "text", level)) for level in levels]
            for level in sorted({t for t in texts if texts.count(t) > 1}):
                yield Problem(("inputs", name, "levels"), f"level {level!r} stands twice")
            yield from _groups(name, block, texts)
        yield from _ranges(("inputs", name), block)
        yield from _kit(name, block, inputs)


def _columns(data: Mapping[str, Any]) -> Iterator[Problem]:
    """An input that reads the column of the patient or of the outcome."""
    cohort, target = _block(data, "cohort"), _block(data, "target")
    roles = {_text(cohort.get(key)): f"names the {key} (`cohort.{key}`)" for key in ("patient", "row")}
    roles |= {_text(target.get(key)): f"is the outcome (`target.{key}`)" for key in ("column", "time", "event")}
    roles |= dict.fromkeys(_texts(target, "competing"), "is a competing event (`target.competing`)")
    roles |= {_text(cohort.get("site")): "is the centre (`cohort.site`)"}
    for name, block in _block(data, "inputs").items():
        column = block.get("column", name) if isinstance(block, dict) else None
        if isinstance(column, str) and column in roles:
            path = ("inputs", name, "column") if "column" in block else ("inputs", name)
            message = f"column {column!r} {roles[column]}; it cannot be an input as well"
            yield Problem(path, message, "Remove this input.")
    positive, negative = _text(target.get("positive")), _text(target.get("negative"))
    if positive is not None and positive == negative:
        yield Problem(("target", "negative"), f"{negative!r} is the positive value as well")


def _text(value: Any) -> str | None:
    """A scalar as it was written; None for anything else."""
    return str(getattr(value, "text", value)) if isinstance(value, (str, int, float)) else None


def _groups(name: str, block: Mapping[str, Any], levels: list[str]) -> Iterator[Problem]:
    groups = block.get("groups")
    if not isinstance(groups, dict):
        return
    home: dict[str, str] = {}
    for level, cells in groups.items():
        if level not in levels:
            yield Problem(("inputs", name, "groups", level), f"{level!r} is not one of `levels`", hint(level, levels))
        for cell in cells if isinstance(cells, list) else ():
            text = str(getattr(cell, "text", cell))
            if text in home:
                message = f"cell {text!r} is in {home[text]!r} and in {level!r}"
                yield Problem(("inputs", name, "groups", level), message)
            home[text] = level


def _ranges(path: tuple[Key, ...], block: Mapping[str, Any]) -> Iterator[Problem]:
    limits = _two_numbers(block.get("limits"))
    if limits is not None and not limits[0] < limits[1]:
        message = f"the lower limit {limits[0]:g} is not below the upper limit {limits[1]:g}"
        yield Problem((*path, "limits"), message)


def _two_numbers(value: Any) -> tuple[float, float] | None:
    if isinstance(value, list) and len(value) == 2 and all(isinstance(x, (int, float)) for x in value):
        return float(value[0]), float(value[1])
    return None


def _kit(name: str, block: Mapping[str, Any], inputs: Mapping[str, Any]) -> Iterator[Problem]:
    kit = block.get("kit")
    if not isinstance(kit, dict):
        return
    path = ("inputs", name, "kit")
    constant, banded = "low" in kit or "high" in kit, "bands" in kit
    if constant == banded or (constant and not ("low" in kit and "high" in kit)):
        yield Problem(path, "give either `low` and `high`, or `bands`")
    if constant and not banded and "by" in kit:
        message = "`low` and `high` hold for all patients; only `bands` look at `by`"
        yield Problem((*path, "by"), message, "Remove `by`, or give `bands`.")
    if all(isinstance(kit.get(k), (int, float)) for k in ("low", "high")) and not kit["low"] < kit["high"]:
        yield Problem(path, f"low {kit['low']} is not below high {kit['high']}")
    by = _block(kit, "by")
    for what, kinds in (("sex", ("binary", "category")), ("age", ("number",))):
        target = by.get(what)
        if isinstance(target, str):
            if target not in inputs:
                yield Problem((*path, "by", what), f"there is no input {target!r}", hint(target, inputs))
            elif isinstance(inputs[target], dict) and inputs[target].get("kind") not in kinds:
                yield Problem((*path, "by", what), f"input {target!r} is not of kind {' or '.join(kinds)}")
            elif what == "age" and isinstance(inputs[target], dict) and inputs[target].get("unit") not in _YEARS:
                yield Problem((*path, "by", what), f"age bands are in years, but {target!r} has no `unit: year`")
    sexes = inputs.get(by["sex"]) if isinstance(by.get("sex"), str) else None
    levels = sexes.get("levels") if isinstance(sexes, dict) else None
    known = [_text(level) or "" for level in levels] if isinstance(levels, list) else None
    for i, band in enumerate(_list(kit, "bands")):
        if isinstance(band, dict):
            yield from _band((*path, "bands", i), band, by, known)


def _band(
    path: tuple[Key, ...], band: Mapping[str, Any], by: Mapping[str, Any], levels: list[str] | None
) -> Iterator[Problem]:
    for what in ("sex", "age"):
        if what in band and what not in by:
            yield Problem(path, f"the band looks at {what}, but `by.{what}` names no input")
    sex = _text(band.get("sex"))
    if sex is not None and levels is not None and sex not in levels:
        message = f"{sex!r} is not a level of {by['sex']!r}"
        yield Problem((*path, "sex"), message, hint(sex, levels))
    limits, age = _two_numbers([band.get("low"), band.get("high")]), _two_numbers(band.get("age"))
    if limits is not None and not limits[0] < limits[1]:
        yield Problem(path, f"low {limits[0]:g} is not below high {limits[1]:g}")
    if age is not None and not age[0] < age[1]:
        yield Problem((*path, "age"), f"the age band from {age[0]:g} to {age[1]:g} holds nobody")


def _predictors(data: Mapping[str, Any]) -> Iterator[Problem]:
    inputs, predictors = _block(data, "inputs"), _block(data, "predictors")
    names = [*inputs, *predictors]
    graph: dict[str, list[str]] = {}
    for name, block in predictors.items():
        if not isinstance(block, dict):
            continue
        path: tuple[Key, ...] = ("predictors", name)
        listed = _list(block, "inputs")
        used = [item for item in listed if isinstance(item, str)]
        graph[name] = [item for item in used if item in predictors]
        for i, item in enumerate(listed):
            if isinstance(item, str) and item not in names:
                yield Problem((*path, "inputs", i), f"there is no input or predictor {item!r}", hint(item, names))
            elif used.count(item) > 1 and used.index(item) != i:
                yield Problem((*path, "inputs", i), f"{item!r} stands twice")
        if block.get("kind") == "network":
            continue
        for key, kinds in (("terms", ("number", "lab")), ("encode", ("lab",))):
            for item in _block(block, key):
                if item not in used:
                    message = f"{item!r} is not among this predictor's inputs"
                    yield Problem((*path, key, item), message, hint(item, used))
                elif item in inputs and isinstance(inputs[item], dict) and inputs[item].get("kind") not in kinds:
                    kind = inputs[item].get("kind")
                    if (key, kind) == ("terms", "score"):  # it enters as the number that it is
                        continue
                    yield Problem((*path, key, item), f"`{key}` is for {' and '.join(kinds)}; {item!r} is a {kind}")
                elif item in predictors and item not in inputs:
                    message = f"{item!r} is the score of a predictor; scores enter linearly"
                    yield Problem((*path, key, item), message, f"Remove {item!r} from `{key}`.")
        yield from _encodings(path, block, inputs)
        yield from _settings(data, path, block, fed=bool(graph[name]))
    for name in graph:
        cycle = _cycle(graph, name)
        if cycle:
            message = f"predictors feed each other in a circle: {' → '.join(cycle)}"
            yield Problem(("predictors", name, "inputs"), message)


def _settings(data: Mapping[str, Any], path: tuple[Key, ...], block: Mapping[str, Any], fed: bool) -> Iterator[Problem]:
    """Settings that exclude each other: none of them may load and then do nothing."""
    survival = _block(data, "target").get("kind") == "survival"
    if block.get("estimator") == "firth" and survival:
        yield Problem((*path, "estimator"), "firth is for binary targets", "Use `shrink: ridge`.")
    if block.get("estimator") == "firth" and block.get("shrink") == "ridge":
        yield Problem((*path, "shrink"), "firth and ridge are two penalties; choose one")
    if block.get("estimator") == "firth" and block.get("select") in ("univariable", "backward") and not survival:
        message = f"{block['select']!r} selects by maximum likelihood, which firth is there to avoid"
        yield Problem((*path, "select"), message, "Use `select: none` or `select: lasso` with `estimator: firth`.")
    if block.get("select") == "lasso" and survival:
        yield Problem((*path, "select"), "lasso selection is for binary targets", "Use `backward` or `none`.")
    if block.get("kind") == "stack":
        return
    needs = fed or block.get("select") == "lasso" or block.get("shrink") == "ridge"
    if _block(data, "validation").get("inner") == "none" and needs:
        why = "out-of-fold scores" if fed else "a penalty chosen by cross-validation"
        yield Problem(path, f"needs {why}, but `validation.inner` is none", "Give `inner: {folds: 5}`.")


def _encodings(path: tuple[Key, ...], block: Mapping[str, Any], inputs: Mapping[str, Any]) -> Iterator[Problem]:
    for item, how in _block(block, "encode").items():
        lab = inputs.get(item)
        if how in ("kit", "uln") and isinstance(lab, dict) and lab.get("kind") == "lab" and "kit" not in lab:
            message = f"{how!r} needs the kit range of {item!r}"
            yield Problem((*path, "encode", item), message, f"Add `kit: {{low: …, high: …}}` to input {item!r}.")
        if how == "kit" and _block(block, "terms").get(item) == "log":
            yield Problem((*path, "encode", item), "(y-L)/(H-L) can be negative, so it cannot enter as a logarithm")


def _cycle(graph: Mapping[str, list[str]], start: str) -> list[str]:
    stack = [(start, [start])]
    seen: set[str] = set()
    while stack:
        name, route = stack.pop()
        for upstream in graph.get(name, ()):
            if upstream == start:
                return [*route, start]
            if upstream not in seen:
                seen.add(upstream)
                stack.append((upstream, [*route, upstream]))
    return []


def _named_predictors(data: Mapping[str, Any]) -> Iterator[Problem]:
    """Predictors listed in `report.compare`, `report.adds` and `validation.optimism`."""
    if data.get("predictors") == AUTO:
        return  # names of candidates: a plan will say them
    predictors = _block(data, "predictors")
    yield from _pairs(_list(_block(data, "report"), "adds"), predictors)
    repeated, compared = ("validation", "optimism", "predictors"), _list(_block(data, "report"), "compare")
    listed = [
        (repeated, _list(_block(data, "validation", "optimism"), "predictors")),
        (("report", "compare"), compared),
    ]
    if len(compared) == 1:
        yield Problem(("report", "compare"), "a comparison needs two predictors", "Name another, or remove this key.")
    for path, names in listed:
        for i, name in enumerate(names):
            if not isinstance(name, str):
                continue
            if name not in predictors:
                yield Problem((*path, i), f"there is no predictor {name!r}", hint(name, predictors))
            elif name in names[:i]:
                yield Problem((*path, i), f"{name!r} stands twice")
            elif path == repeated and any(item in predictors for item in _texts(predictors[name], "inputs")):
                message = f"{name!r} is fed by another predictor; the bootstrap of out-of-fold scores is not offered"
                yield Problem((*path, i), message, "Repeated nested cross-validation is its estimate.")
            elif path == repeated and _block(predictors, name).get("kind") not in ("nomogram", None):
                message = f"{name!r} is a {predictors[name]['kind']}; the bootstrap is offered for nomograms"
                yield Problem((*path, i), message, "Repeated nested cross-validation is its estimate.")


def _pairs(pairs: list[Any], predictors: Mapping[str, Any]) -> Iterator[Problem]:
    """`report.adds`: two predictors that exist, each pair once."""
    for i, pair in enumerate(pairs):
        path = ("report", "adds", i)
        if not isinstance(pair, list):
            continue
        for k, name in enumerate(pair):
            if isinstance(name, str) and name not in predictors:
                yield Problem((*path, k), f"there is no predictor {name!r}", hint(name, predictors))
        if len(pair) == 2 and pair[0] == pair[1]:
            yield Problem(path, f"{pair[0]!r} cannot add to itself", "Write [without, with].")
        elif pair in pairs[:i]:
            yield Problem(path, f"[{', '.join(map(str, pair))}] stands twice")


def _texts(block: Any, key: str) -> list[str]:
    return [item for item in _list(block, key) if isinstance(item, str)] if isinstance(block, dict) else []


def _prevalence(data: Mapping[str, Any]) -> Iterator[Problem]:
    study = _block(data, "study")
    if study.get("sampling") == "cohort" and study.get("prevalence") is not None:
        message = "a cohort has its own prevalence; this key is for case_control and enriched sampling"
        yield Problem(("study", "prevalence"), message, "Remove it, or correct `sampling`.")


def _rest(data: Mapping[str, Any]) -> Iterator[Problem]:
    for code in _block(data, "checks", "accept"):
        if code not in BY_CODE:
            yield Problem(("checks", "accept", code), f"there is no check {code!r}", hint(code, BY_CODE))
    target = _block(data, "target")
    if target.get("kind") == "survival":
        horizons = _list(target, "horizons")
        numbers = all(isinstance(h, (int, float)) for h in horizons)
        if numbers and (any(h <= 0 for h in horizons) or sorted(set(horizons)) != horizons):
            yield Problem(("target", "horizons"), "horizons must be above 0 and increasing")
    decision = _block(data, "decision")
    thresholds = _two_numbers(decision.get("thresholds"))
    if thresholds is not None and not 0 < thresholds[0] < thresholds[1] < 1:
        yield Problem(("decision", "thresholds"), "must be two risks with 0 < low < high < 1")
    act_on = decision.get("act_on")
    if act_on is not None and target and target.get("kind") not in (*CLASSES, "region"):
        event = "event" if target.get("kind") == "survival" else _text(target.get("positive"))
        if event not in (None, UNANSWERED) and _text(act_on) not in (event, UNANSWERED):
            message = f"{_text(act_on)!r} is not the event, {event!r}"
            yield Problem(("decision", "act_on"), message, "Risks and thresholds are those of the event.")
