"""What is wrong with a schema while it is written: with line numbers, and with what a stranger may not ask for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from osml.codes import BY_CODE
from osml.errors import OsmlError, SchemaError
from osml.schema.crosscheck import UNANSWERED_MESSAGE
from osml.schema.document import Document, Key, Problem, read_document
from osml.schema.load import examine
from osml.schema.model import Schema
from osml.study.prepare import prepare, refusals
from osml.study.training.workspace import SCHEMA, TABLE, Job, without_folders

_OUTSIDE = "The app reads what was uploaded here and nothing else."
_COMMAND = "Use `osml fit` on the command line."


@dataclass(frozen=True)
class Remark:
    """One thing wrong, on a line of the YAML (0: nowhere in particular)."""

    line: int
    path: tuple[Key, ...]
    message: str
    hint: str = ""

    @property
    def where(self) -> str:
        """`target.positive`, or "" for the whole file."""
        return ".".join(map(str, self.path))


@dataclass(frozen=True)
class Judgement:
    """A schema as it stands.

    questions : places that wait for an answer ("?")
    problems : everything else that must be mended before it can be fitted
    document : None when the text is no YAML
    """

    questions: tuple[Remark, ...]
    problems: tuple[Remark, ...]
    document: Document | None = None
    schema: Schema | None = None

    @property
    def ready(self) -> bool:
        """Whether the schema is whole."""
        return not self.questions and not self.problems


@dataclass(frozen=True)
class Check:
    """One coded finding about the data, in words; `stops` when it refuses and was not accepted."""

    code: str
    title: str
    subject: str
    evidence: str
    why: str
    fix: str
    accepted: str
    stops: bool


@dataclass(frozen=True)
class Checked:
    """What `osml check` says: how many patients, and the findings, those that stop first."""

    units: int
    word: str
    excluded: dict[str, int]
    outcomes: dict[str, int]
    findings: tuple[Check, ...]
    error: OsmlError | None = None

    @property
    def stops(self) -> bool:
        return self.error is not None or any(finding.stops for finding in self.findings)


def judge(job: Job, text: str, *, trust: bool = False) -> Judgement:
    """Everything that is wrong with a text as the schema of a job; nothing is read but the text."""
    try:
        document = read_document(text, SCHEMA)
    except SchemaError as error:
        line = re.match(rf"{re.escape(SCHEMA)}(?::(\d+))?:? ?", error.what)
        number = int(line.group(1) or 0) if line else 0
        what = error.what[line.end() :] if line else error.what
        return Judgement((), (Remark(number, (), what, error.do),))
    outside = list(forbidden(document.data, job.facts()["images"], trust=trust))
    schema, problems = examine(document)
    refused = {problem.path for problem in outside}
    found = dict.fromkeys([*outside, *(p for p in problems if p.path not in refused)])
    asked = {p.path for p in found if p.message == UNANSWERED_MESSAGE}
    remarks = [Remark(document.line(p.path), p.path, p.message, p.hint) for p in found]
    remarks.sort(key=lambda remark: remark.line)
    return Judgement(
        tuple(remark for remark in remarks if remark.path in asked),
        tuple(remark for remark in remarks if remark.path not in asked),
        document,
        schema if not remarks else None,
    )


def forbidden(data: Mapping[str, Any], images: list[str], *, trust: bool = False) -> Iterator[Problem]:
    """What leads out of a job's folder, into the network, or into files that run code.

    images : columns whose cells were matched with the uploaded ZIP
    """
    cohort = data.get("cohort")
    table = cohort.get("table") if isinstance(cohort, dict) else None
    if table is not None and table != TABLE:
        yield Problem(("cohort", "table"), f"must be {TABLE}, the table that was uploaded", _OUTSIDE)
    target = data.get("target")
    if isinstance(target, dict) and target.get("kind") == "region":
        yield Problem(("target", "kind"), "whole slides are not uploaded, so they are not trained on here", _COMMAND)
    for name, block in _blocks(data.get("inputs")):
        yield from _input(("inputs", name), name, block, images)
    for name, block in _blocks(data.get("predictors")):
        path: tuple[Key, ...] = ("predictors", name)
        if block.get("kind") == "slide":
            yield Problem((*path, "kind"), "whole slides are not uploaded, so they are not trained on here", _COMMAND)
        if block.get("kind") == "autogluon" and not trust:
            yield Problem(
                (*path, "kind"),
                "AutoGluon's models are pickles, which run code when they are read",
                "The app was started without --trust, so it could not serve them. Use another kind.",
            )
        for item, encoder in _blocks(block.get("encoders")):
            weights = encoder.get("weights")
            if weights == "hub":
                message = "weights are not fetched over the network for a visitor"
                yield Problem((*path, "encoders", item, "weights"), message, "Leave the key out: installed weights.")
            elif weights is not None:
                message = "names a file on the server"
                yield Problem((*path, "encoders", item, "weights"), message, f"Leave the key out. {_OUTSIDE}")


def _input(path: tuple[Key, ...], name: str, block: Mapping[str, Any], images: list[str]) -> Iterator[Problem]:
    kind = block.get("kind")
    if kind == "slide":
        yield Problem((*path, "kind"), "whole slides are not uploaded, so they are not trained on here", _COMMAND)
    if kind == "score":
        yield Problem((*path, "kind"), "names a bundle and files on the server", f"{_OUTSIDE} {_COMMAND}")
    places: list[tuple[tuple[Key, ...], Any]] = []
    if kind in ("volume", "image"):
        places = [
            ((*path, "column"), block.get("column", name)),
            ((*path, "mask", "column"), _inside(block, "mask", "column")),
            ((*path, "body"), block.get("body")),
        ]
    if kind == "radiomics":
        places = [((*path, "stability", "masks"), _inside(block, "stability", "masks"))]
    for place, column in places:
        if isinstance(column, str) and column != "?" and column not in images:
            known = f"Columns with files: {', '.join(images)}." if images else "No images were uploaded."
            yield Problem(place, f"column {column!r} does not name files of the uploaded ZIP", known)


def _blocks(value: Any) -> list[tuple[str, dict[str, Any]]]:
    return [(k, b) for k, b in value.items() if isinstance(b, dict)] if isinstance(value, dict) else []


def _inside(block: Mapping[str, Any], key: str, below: str) -> Any:
    inner = block.get(key)
    return inner.get(below) if isinstance(inner, dict) else None


def check(job: Job, *, trust: bool = False) -> Checked:
    """What `osml check` says of a job whose stored schema is whole.

    Raises
    ------
    SchemaError
        It is not.
    """
    require_ready(judge(job, job.text(), trust=trust))
    try:
        loaded, built, findings = prepare(job.schema_path)
    except OsmlError as error:
        bare = OsmlError(without_folders(error.what), why=without_folders(error.why), do=without_folders(error.do))
        return Checked(0, "patients", {}, {}, (), bare)
    stopped = refusals(loaded, findings)
    accepted = loaded.schema.checks.accept
    cohort = built.cohort
    excluded: dict[str, int] = {}
    for exclusion in cohort.exclusions:
        excluded[exclusion.reason] = excluded.get(exclusion.reason, 0) + 1
    told = [
        Check(
            f.code, BY_CODE[f.code].title, f.subject, f.evidence, BY_CODE[f.code].why, BY_CODE[f.code].fix,
            accepted.get(f.code, ""), f in stopped,
        )
        for f in findings
    ]  # fmt: skip
    return Checked(
        len(cohort),
        "rows" if cohort.per_row else "patients",
        excluded,
        {name: int(units.sum()) for name, units in cohort.outcome_groups().items()},
        tuple(sorted(told, key=lambda c: not c.stops)),
    )


def require_ready(judgement: Judgement) -> None:
    """Refuse a schema that is not whole, with every line that is wrong."""
    if judgement.ready:
        return
    every = [*judgement.problems, *judgement.questions]
    lines = [f"line {remark.line}: {remark.where}: {remark.message}" for remark in every]
    raise SchemaError(f"the schema has {len(every)} open places; nothing was fitted", do="\n  ".join(lines))
