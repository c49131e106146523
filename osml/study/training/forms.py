"""The usual keys of a schema as fields of a form: what stands in the text, what may stand there, and writing it back.

The text is the only state: a field is read from it and writes into it, so the form and the YAML cannot disagree.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from osml.cohort.columns import Seen
from osml.errors import InvalidInputError
from osml.schema.document import Document, Key, read_document
from osml.schema.model import AUTO
from osml.study.training.edit import (
    ASK,
    leave_out,
    set_input_kind,
    set_models,
    set_target,
    set_value,
    take_back,
)
from osml.study.training.workspace import Job

Kind = Literal["choice", "text", "texts", "numbers"]
AS_WRITTEN = "as written in the YAML"
SAMPLING = {
    "cohort": "every eligible patient",
    "case_control": "cases and controls, chosen by outcome",
    "enriched": "more events than there are, chosen by outcome",
}
TARGETS = {"binary": "an event, yes or no", "survival": "the time to an event", "multiclass": "one of several classes"}
MISSING = {"complete_case": "leave the patient out", "impute": "estimate it from the other inputs"}
MODELS = {
    AUTO: "automatic: several kinds, the best chosen honestly",
    "nomogram": "nomogram (regression on points)",
    "nomogram+boosting": "nomogram and boosted trees",
    "radscore+nomogram": "radiomics score and nomogram",
    "nomogram+network": "nomogram and network",
    "network": "network",
}
PRESETS = {"quick": "quick", "standard": "standard", "thorough": "thorough"}
INPUT_KINDS = {
    "number": "number", "lab": "laboratory value", "binary": "two levels", "category": "several levels",
    "image": "picture", "volume": "3D image",
}  # fmt: skip
_FILES = ("image", "volume")


@dataclass(frozen=True)
class Field:
    """One key of the schema in a form.

    value : as text; for `texts` and `numbers` separated by commas; "" when the key is absent
    asked : waits for an answer
    optional : may stay empty
    options : value → words, of a choice
    """

    path: tuple[Key, ...]
    label: str
    kind: Kind
    value: str
    asked: bool
    optional: bool
    options: Mapping[str, str]
    help: str = ""

    @property
    def name(self) -> str:
        return ".".join(map(str, self.path))


class Form:
    """Fields of a document that was read, for a table whose columns were seen."""

    def __init__(self, document: Document, seen: Mapping[str, Seen], images: Sequence[str] = ()) -> None:
        self.data, self.seen, self.images = document.data, seen, images

    def study(self) -> list[Field]:
        """What the study is, and the moment of prediction."""
        times = [text for text in _texts(self._at(("times",))) if text != ASK]
        return [
            self._field(("name",), "Name of the study", help="Letters, digits, '.', '_' and '-'."),
            self._field(("study", "sampling"), "How patients came into the table", options=SAMPLING),
            self._field(("times",), "Moments in order", "texts", help="For example: diagnosis, after_surgery"),
            self._field(("time_of_prediction",), "Moment of prediction", options=_same(times)),
            self._field(("study", "endpoint"), "Endpoint in words", optional=True),
            self._field(("study", "title"), "Title", optional=True),
            self._field(("study", "population"), "Population", optional=True),
            self._field(("study", "centre"), "Centre", optional=True),
            self._field(("study", "period"), "Period", optional=True),
        ]

    def patients(self) -> list[Field]:
        """Which column names the patient and the centre, and which cells mean missing."""
        columns = _same(list(self.seen))
        return [
            self._field(("cohort", "patient"), "Column that names the patient", options=columns),
            self._field(("cohort", "site"), "Column that names the centre", options=columns, optional=True),
            self._field(("missing",), "A patient with a missing input", options=MISSING),
        ]

    def target(self) -> list[Field]:
        """The outcome."""
        kind = str(self._at(("target", "kind")) or "")
        columns = _same(list(self.seen))
        fields = [self._field(("target", "kind"), "What is predicted", options=TARGETS)]
        if kind == "survival":
            event = str(self._at(("target", "event")) or "")
            return [
                *fields,
                self._field(("target", "time"), "Column of the follow-up time", options=columns),
                self._field(("target", "unit"), "Its unit", options=_same(["day", "week", "month", "year"])),
                self._field(("target", "event"), "Column of the event", options=columns),
                self._field(("target", "positive"), "Value that says that it happened", options=self._levels(event)),
                self._field(("target", "horizons"), "Risk at which times", "numbers", help="For example: 12, 36"),
                self._field(
                    ("target", "competing"), "Competing events", options={"none": "none"}, help="Others: in the YAML."
                ),
            ]
        column = str(self._at(("target", "column")) or "")
        fields.append(self._field(("target", "column"), "Column of the outcome", options=columns))
        if kind == "binary":
            fields.append(
                self._field(
                    ("target", "positive"), "Value of the outcome that is the event", options=self._levels(column)
                )
            )
        if kind == "multiclass":
            fields.append(self._field(("target", "classes"), "Classes in order", "texts"))
        return fields

    def inputs(self) -> list[str]:
        """Names of the inputs in order."""
        block = self.data.get("inputs")
        return [name for name, item in block.items() if isinstance(item, dict)] if isinstance(block, dict) else []

    def input(self, name: str) -> list[Field]:
        """One input."""
        place: tuple[Key, ...] = ("inputs", name)
        kind = str(self._at((*place, "kind")) or "")
        column = str(self._at((*place, "column")) or name)
        times = [text for text in _texts(self._at(("times",))) if text != ASK]
        allowed = {key: INPUT_KINDS[key] for key in INPUT_KINDS if (key in _FILES) == (column in self.images)}
        fields = [self._field((*place, "available"), "Known at", options=_same(times))]
        if kind == "radiomics":
            return []
        fields.insert(0, self._field((*place, "kind"), "Kind", options=allowed))
        fields.append(self._field((*place, "label"), "Name on paper", optional=True))
        if kind in ("number", "lab"):
            fields.append(self._field((*place, "unit"), "Unit", optional=kind == "number"))
            fields.append(
                self._field(
                    (*place, "limits"), "Possible from, to", "numbers", optional=True, help="For example: 0, 120"
                )
            )
            for side, rules in (("below", ["half", "limit"]), ("above", ["limit"])):
                if self._at((*place, "censored", side)) is not None:
                    words = {"half": "half of the limit", "limit": "the limit itself"}
                    sign = "<" if side == "below" else ">"
                    options = {rule: words[rule] for rule in rules}
                    fields.append(
                        self._field((*place, "censored", side), f"Cells like '{sign}5' count as", options=options)
                    )
        if kind in ("binary", "category"):
            fields.append(
                self._field((*place, "levels"), "Levels, the reference first", "texts", help="As in the table.")
            )
        if kind in _FILES:
            masks = _same([other for other in self.images if other != column])
            fields.append(self._field((*place, "mask", "column"), "Column of its mask", options=masks, optional=True))
        return fields

    def evidence(self, name: str) -> str:
        """What the column of an input holds, in one line."""
        column = str(self._at(("inputs", name, "column")) or name)
        seen = self.seen.get(column)
        if seen is None:
            return ""
        gaps = f"; {seen.blank} of {seen.rows} missing" if seen.blank else ""
        if column in self.images:
            return f"{seen.rows - seen.blank} files{gaps}"
        if seen.is_number:
            return f"{seen.low:g} to {seen.high:g}, {len(seen.levels)} values{gaps}"
        return ", ".join(f"{level}: {seen.counts[level]}" for level in seen.levels[:6]) + gaps

    def models(self) -> tuple[str, dict[str, str]]:
        """The choice of models that the text makes, and the choices that there are."""
        kinds = [str(block.get("kind")) for _, block in _items(self.data.get("inputs"))]
        files, radiomics = any(kind in _FILES for kind in kinds), "radiomics" in kinds
        left = {key: words for key, words in MODELS.items() if files or "network" not in key}
        left = {key: words for key, words in left.items() if radiomics or "radscore" not in key}
        block = self.data.get("predictors")
        if block == AUTO:
            return AUTO, left
        found = "+".join(str(item.get("kind")) for _, item in _items(block))
        usual = found in left and not any(set(item) - {"kind", "inputs"} for _, item in _items(block))
        return (found, left) if usual else (AS_WRITTEN, {AS_WRITTEN: AS_WRITTEN, **left})

    def validation(self) -> list[Field]:
        """Folds, where the study is divided into folds."""
        if self._at(("validation", "split", "kind")) != "kfold":
            return []
        return [
            self._field(("validation", "split", "folds"), "Folds", "numbers"),
            self._field(("validation", "split", "repeats"), "Repeats", "numbers", optional=True),
        ]

    def acceptance(self, code: str) -> Field:
        """The reason for which a finding is accepted."""
        return self._field(("checks", "accept", code), f"Reason to go on in spite of {code}", optional=True)

    def _field(
        self,
        path: tuple[Key, ...],
        label: str,
        kind: Kind = "text",
        *,
        optional: bool = False,
        options: Mapping[str, str] | None = None,
        help: str = "",
    ) -> Field:
        found = self._at(path)
        asked = found == ASK or (isinstance(found, list) and ASK in found)
        value = "" if asked or found is None else ", ".join(_texts(found)) if isinstance(found, list) else _text(found)
        choices = dict(options or {})
        if options is not None and value and value not in choices:
            choices[value] = value
        return Field(path, label, "choice" if options is not None else kind, value, asked, optional, choices, help)

    def _levels(self, column: str) -> dict[str, str]:
        seen = self.seen.get(column)
        return {} if seen is None else {level: f"{level} ({seen.counts[level]} rows)" for level in seen.levels[:50]}

    def _at(self, path: Sequence[Key]) -> Any:
        here: Any = self.data
        for step in path:
            here = here.get(step) if isinstance(here, dict) else None
        return here


def write(text: str, field: Field, value: str | None, seen: Mapping[str, Seen]) -> str:
    """The text with the answer of a field; an empty answer removes an optional key and asks for another one again.

    Raises
    ------
    InvalidInputError
        The answer cannot be the value of this key.
    """
    answer = (value or "").strip()
    if field.path == ("target", "kind") and answer:
        return set_target(text, answer, seen)
    if field.path[0] == "inputs" and field.path[-1] == "kind" and answer:
        column = field.path[1]
        return set_input_kind(text, str(column), answer, _column_of(text, str(column), seen))
    if not answer:
        if field.optional:
            text = set_value(text, field.path, None)
            return set_value(text, field.path[:-1], None) if field.path[-2:] == ("mask", "column") else text
        return set_value(text, field.path, [ASK] if field.kind in ("texts", "numbers") else ASK)
    text = set_value(text, field.path, _parsed(field, answer))
    if field.path in (("target", "column"), ("target", "event"), ("target", "time"), ("cohort", "patient")):
        text = _without_inputs_of(text, answer)
    return text


def known_at(text: str, form: Form, moment: str) -> str:
    """Every input whose moment is not answered yet is known at this one."""
    for name in form.inputs():
        for field in form.input(name):
            if field.path[-1] == "available" and field.asked:
                text = set_value(text, field.path, moment)
    return text


def use_input(job: Job, text: str, name: str, use: bool) -> str:
    """Take an input out of the schema, or put it back as it stood."""
    aside = dict(job.facts()["aside"])
    if use:
        text = take_back(text, name, aside.pop(name))
    else:
        text, aside[name] = leave_out(text, name)
    job.remember(aside=aside)
    return text


def choose_models(text: str, choice: str) -> str:
    """The predictors of a choice; what is written in the YAML stays where that is the choice."""
    return text if choice == AS_WRITTEN else set_models(text, choice)


def _without_inputs_of(text: str, column: str) -> str:
    """The outcome and the patient's name are no inputs."""
    for name, block in _items(read_document(text, "schema.yaml").data.get("inputs")):
        if block.get("column", name) == column:
            text, _ = leave_out(text, name)
    return text


def _column_of(text: str, name: str, seen: Mapping[str, Seen]) -> Seen | None:
    block = read_document(text, "schema.yaml").data["inputs"][name]
    return seen.get(str(block.get("column", name)))


def _parsed(field: Field, answer: str) -> Any:
    if field.kind in ("text", "choice"):
        return answer
    parts = [part.strip() for part in answer.split(",") if part.strip()]
    if field.kind == "texts":
        return parts
    wrong = [part for part in parts if not re.fullmatch(r"[+-]?\d+(\.\d+)?", part)]
    if wrong or not parts:
        raise InvalidInputError(
            f"{field.label}: {(wrong or [answer])[0][:40]!r} is not a number", do="Write numbers, separated by commas."
        )
    numbers = [float(part) if "." in part else int(part) for part in parts]
    return numbers[0] if field.path[0] == "validation" and len(numbers) == 1 else numbers


def _items(value: Any) -> list[tuple[str, dict[str, Any]]]:
    return [(k, b) for k, b in value.items() if isinstance(b, dict)] if isinstance(value, dict) else []


def _same(values: Sequence[str]) -> dict[str, str]:
    return {value: value for value in values}


def _texts(value: Any) -> list[str]:
    return [_text(item) for item in value] if isinstance(value, list) else []


def _text(value: Any) -> str:
    return str(getattr(value, "text", value))
