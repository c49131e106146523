"""Field types of the YAML border: strict scalars, texts that keep their spelling, paths with ${ENV:-default}."""

from __future__ import annotations

import math
import os
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.json_schema import WithJsonSchema

from osml.schema.document import SourceBool, SourceFloat, SourceInt


class Block(BaseModel):
    """Base of every block: unknown keys are refused, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=False)


def _source_text(value: Any) -> Any:
    """A level written 01, 1.0 or true is compared with the table as it was written."""
    return value.text if isinstance(value, (SourceInt, SourceFloat, SourceBool)) else value


def _strict_number(value: Any) -> Any:
    if isinstance(value, (SourceBool, bool)) or not isinstance(value, (int, float)):
        raise ValueError(f"must be a number, not {_shown(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"must be a finite number, not {_shown(value)}")
    return number


def _strict_whole(value: Any) -> Any:
    if isinstance(value, (bool, SourceBool)) or not isinstance(value, int):
        raise ValueError(f"must be a whole number, not {_shown(value)}")
    return int(value)


def _strict_text(value: Any) -> Any:
    if not isinstance(value, str):
        hint = "quote it if it is meant as one"
        if value is None:
            hint = "a comma inside {…} starts a new key: quote texts that hold one"
        raise ValueError(f"must be a text, not {_shown(value)}; {hint}")
    return value


def _shown(value: Any) -> str:
    if value is None:
        return "empty"
    if isinstance(value, (SourceInt, SourceFloat, SourceBool)):
        return value.text
    if isinstance(value, dict):
        return "a block of keys"
    if isinstance(value, list):
        return "a list"
    return repr(value)


Number = Annotated[float, BeforeValidator(_strict_number), WithJsonSchema({"type": "number"})]
Whole = Annotated[int, BeforeValidator(_strict_whole), WithJsonSchema({"type": "integer"})]
Text = Annotated[str, BeforeValidator(_strict_text), Field(min_length=1), WithJsonSchema({"type": "string"})]
Level = Annotated[
    str,
    BeforeValidator(lambda value: _strict_text(_source_text(value))),
    WithJsonSchema({"type": ["string", "number", "boolean"], "description": "compared as text, as written"}),
]

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


def expand(path: str) -> str:
    """Replace ${NAME} and ${NAME:-default} by the environment's values; an unset name without default is an error.

    >>> expand("${OSML_NO_SUCH:-data}/patients.csv")
    'data/patients.csv'
    """

    def value(match: re.Match[str]) -> str:
        name, default = match.group(1), match.group(2)
        found = os.environ.get(name) or default
        if found is None:
            raise ValueError(f"environment variable {name} is not set and no default is given (${{{name}:-default}})")
        return found

    return _VARIABLE.sub(value, path)


FilePath = Annotated[
    str,
    BeforeValidator(_strict_text),
    AfterValidator(expand),
    WithJsonSchema({"type": "string", "description": "relative to this file; ${NAME:-default} is replaced"}),
]
