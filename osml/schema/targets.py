"""What a study predicts: an event, the time to one, or classes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from osml.errors import InvalidInputError
from osml.schema.fields import Block, Level, Number, Text
from osml.stats.tree import LabelTree, label_tree


class BinaryTarget(Block):
    """A yes-or-no outcome."""

    kind: Literal["binary"]
    column: Text = Field(description="column of the outcome")
    positive: Level = Field(description="the value that is the event")
    negative: Level | None = Field(None, description="the other value; default: the only other one in the table")


class SurvivalTarget(Block):
    """Time to an event, with censoring."""

    kind: Literal["survival"]
    time: Text = Field(description="column of the follow-up time")
    event: Text = Field(description="column that says whether the event happened")
    positive: Level = Field("1", description="the value of `event` that is the event")
    negative: Level | None = Field(None, description="the value that is censoring; default: the only other one")
    unit: Literal["day", "week", "month", "year"] = Field(description="unit of `time` and of the horizons")
    horizons: Annotated[tuple[Number, ...], Field(min_length=1, description="times at which risk is predicted")]
    censor_at: Annotated[Number, Field(gt=0)] | None = Field(
        None, description="administrative censoring: follow-up beyond this time is cut there"
    )
    competing: Literal["none"] | tuple[Text, ...] = Field(
        description="none, or columns of competing events; with them absolute risk from one Cox model is refused"
    )


class MulticlassTarget(Block):
    """Three or more classes without order."""

    kind: Literal["multiclass"]
    column: Text = Field(description="column of the class")
    classes: Annotated[tuple[Level, ...], Field(min_length=3, description="the values of the column, in the order of "
                                                "tables and figures")]  # fmt: skip


def _tree(value: Any) -> Any:
    """Names as texts, as they were written; a tree that is none is refused."""
    read = _names(value)
    try:
        label_tree(read)
    except InvalidInputError as error:
        raise ValueError(error.what) from None
    return tuple(read)


def _names(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_names(item) for item in value]
    if isinstance(value, dict):
        return {str(getattr(name, "text", name)): _names(below) for name, below in value.items()}
    return str(getattr(value, "text", value)) if isinstance(value, (str, int, float)) else value


class HierarchyTarget(Block):
    """Classes that form a tree: first which branch, then which class in it."""

    kind: Literal["hierarchy"]
    column: Text = Field(description="column of the class; its values are nodes of the tree, or keys of `partial`")
    tree: Annotated[
        tuple[Any, ...],
        BeforeValidator(_tree),
        Field(description="names are leaves, `{name: [children]}` inner nodes, to any depth"),
    ]
    partial: dict[str, Level] = Field(
        {}, description="value of the column: inner node at which its label stops; trains that node and is left out of "
        "measures of leaves"
    )  # fmt: skip


ClassesTarget = MulticlassTarget | HierarchyTarget


def tree_of(target: ClassesTarget) -> LabelTree:
    """The classes of a target as a tree; those without order are a tree of depth one."""
    return label_tree(list(target.tree) if isinstance(target, HierarchyTarget) else list(target.classes))
