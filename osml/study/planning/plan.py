"""A plan: the candidates of a study with the reason for each, as plan.yaml. Written before anything is fitted."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from osml.errors import SchemaError
from osml.schema.document import Document, Problem, SourceBool, read_document
from osml.schema.fields import Block, Number, Text, Whole

Preset = Literal["quick", "standard", "thorough"]
WIDTH = 120


class LeftOut(Block):
    """A candidate that was considered and is not in the plan."""

    what: Text = Field(description="the candidate")
    why: Text = Field(description="the reason")


class Need(Block):
    """What Riley's criteria ask of a regression with this many candidate parameters."""

    predictor: Text = Field(description="the candidate")
    parameters: Whole = Field(description="candidate parameters")
    patients: Whole = Field(description="patients at hand")
    events: Whole = Field(description="of them with the event")
    needed: Whole | None = Field(description="patients that Riley's criteria ask for; none where they have no solution")
    shrinkage: Number | None = Field(description="expected shrinkage at the patients at hand")
    verdict: Text = Field(description="what follows")


class PlanFile(Block):
    """Everything a plan says beside `predictors`, which are those of the schema."""

    plan: Literal[1] = Field(description="version of this file")
    osml: Text = Field(description="version that wrote it")
    study: Text = Field(description="name of the schema")
    schema_sha256: Text = Field(description="of the resolved schema without predictors")
    table_sha256: Text = Field(description="of the table that the counts come from")
    preset: Preset = Field(description="how much is tried")
    time_limit: Annotated[Number, Field(gt=0)] | None = Field(description="seconds for `osml fit`; null: no limit")
    cohort: dict[str, Any] = Field(description="counts that decided")
    machine: dict[str, Any] = Field(description="what the machine had")
    predictors: dict[str, Any] = Field(description="the candidates, simplest first, in the schema's own words")
    why: dict[str, Text] = Field(description="candidate: the reason")
    report: dict[str, Any] = Field(description="what is compared; a schema's own `report` goes before")
    left_out: tuple[LeftOut, ...] = Field(description="what is not tried, and why")
    governor: tuple[Need, ...] = Field(description="Riley's criteria for the regressions")
    proposed: Text = Field(description="SHA-256 of candidates, comparison, preset and limit as osml wrote them")


@dataclass(frozen=True)
class Plan:
    """A plan and the document that the schema takes its predictors from."""

    file: PlanFile
    document: Document
    text: str

    @property
    def edited(self) -> bool:
        """Whether candidates, comparison, preset or limit differ from what osml wrote."""
        return content_hash(dict(self.file)) != self.file.proposed


def content_hash(data: Mapping[str, Any]) -> str:
    """SHA-256 of what a plan decides; reasons and comments do not matter to it."""
    decided = {key: data[key] for key in ("predictors", "report", "preset", "time_limit", "schema_sha256")}
    return hashlib.sha256(json.dumps(plain(decided), sort_keys=True).encode()).hexdigest()


def plain(value: Any) -> Any:
    """Whole numbers as such, since YAML may write 3600 or 3600.0; values of a document without their spelling."""
    if isinstance(value, (bool, SourceBool)):
        return bool(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (int, float)):
        return int(value) if float(value).is_integer() else float(value)
    return value


def make_plan(data: dict[str, Any], name: str) -> Plan:
    """The plan of proposed data; `proposed` is filled in here."""
    data = plain(data)
    data["proposed"] = content_hash(data)
    return parse_plan(plan_text(data), name)


def plan_text(data: Mapping[str, Any]) -> str:
    """The YAML of a plan; the reason of each candidate stands above it as well."""
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedMap

    root = CommentedMap(_flowing(data))
    predictors = CommentedMap(root["predictors"])
    root["predictors"] = predictors
    root.yaml_set_start_comment(
        "Plan of candidates, written before anything is fitted. Predictors may be changed, removed or added;\n"
        "the report says whether the analysis followed what osml proposed (`proposed` is its SHA-256)."
    )
    yaml = YAML()
    yaml.width = WIDTH
    yaml.indent(mapping=2, sequence=4, offset=2)
    for name in predictors:
        predictors.yaml_set_comment_before_after_key(name, before=_wrapped(data["why"].get(name, "")), indent=2)
    sink = io.StringIO()
    yaml.dump(root, sink)
    return sink.getvalue()


def _wrapped(text: str) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, WIDTH - 10))


def _flowing(data: Mapping[str, Any]) -> dict[str, Any]:
    """Inner blocks of a candidate and short lists on one line each, as a person writes them."""
    from ruamel.yaml.comments import CommentedMap, CommentedSeq

    def flow(value: Any) -> Any:
        if isinstance(value, dict):
            block = CommentedMap({key: flow(item) for key, item in value.items()})
            block.fa.set_flow_style()
            return block
        if isinstance(value, (list, tuple)):
            items = CommentedSeq([flow(item) for item in value])
            items.fa.set_flow_style()
            return items
        return value

    def block(value: Any) -> Any:
        return CommentedMap({key: flow(item) for key, item in value.items()})

    out = dict(data)
    for key in ("cohort", "machine"):
        out[key] = flow(data[key])
    for key in ("report", "why"):
        out[key] = block(data[key])
    out["predictors"] = {name: block(candidate) for name, candidate in data["predictors"].items()}
    for key in ("left_out", "governor"):
        out[key] = [block(row) for row in data[key]]
    return out


def read_plan(path: Path) -> Plan:
    """Read plan.yaml.

    Raises
    ------
    SchemaError
        It is not there, not YAML, or says something a plan does not know; with file:line.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise SchemaError(f"no plan at {path}", do="`osml plan SCHEMA` writes one.") from None
    except (IsADirectoryError, PermissionError) as error:
        raise SchemaError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SchemaError(f"{path}: not UTF-8 at byte {error.start}", do="Save the file as UTF-8.") from None
    return parse_plan(text, path.name)


def parse_plan(text: str, name: str) -> Plan:
    """A plan from its text; errors as `read_plan`."""
    document = read_document(text, name)
    problems = list(document.problems)
    try:
        file = PlanFile.model_validate(document.data)
    except ValidationError as error:
        for item in error.errors():
            problems.append(Problem(tuple(item["loc"]), _words(item)))
        raise document.fail(problems) from None
    if not file.predictors:
        problems.append(Problem(("predictors",), "no candidate is left"))
    if problems:
        raise document.fail(problems)
    return Plan(file, document, text)


def _words(item: Mapping[str, Any]) -> str:
    if item["type"] == "missing":
        return "this key of a plan is missing"
    if item["type"] == "extra_forbidden":
        return "unknown key; a plan has no such key"
    return str(item["msg"])[:1].lower() + str(item["msg"])[1:]


def time_limit(text: str) -> float | None:
    """Seconds of a limit as a person writes it; None for `none`.

    >>> time_limit("90s"), time_limit("10m"), time_limit("1.5h"), time_limit("none")
    (90.0, 600.0, 5400.0, None)
    """
    if text == "none":
        return None
    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    number, unit = (text[:-1], text[-1:]) if text[-1:] in units else ("", "")
    try:
        seconds = float(number) * units.get(unit, 0.0)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e7:
        raise SchemaError(f"time limit {text!r}", do="Write a number with its unit, 90s, 10m or 2h, or none.")
    return seconds
