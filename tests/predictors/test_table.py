"""The table that tabular learners read: which columns, from where, and what is demanded of new units."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from network_designs import network_cohort, network_schema

from osml.cohort.cohort import Cohort, FeatureTable, ImageTable
from osml.errors import InvalidInputError, NotEstimableError
from osml.features.images import image_plan
from osml.predictors.contract import Design
from osml.predictors.table import TableSpec, fit_table, table_from_json
from osml.schema.model import NomogramPredictor, Schema

INPUTS = ("picture", "texture", "first", "age", "marker", "stage")


def schema_of(target: str = "binary", inputs: tuple[str, ...] = INPUTS) -> Schema:
    schema = network_schema(target)
    block = schema.networks()["net"].model_copy(update={"inputs": inputs})
    first = NomogramPredictor(kind="nomogram", inputs=("age",))
    return schema.model_copy(update={"predictors": {"first": first, "net": block}})


def design_of(schema: Schema, n: int = 60, **changes: Any) -> Design:
    cohort = network_cohort(network_schema(schema.target.kind), n, gaps=True)
    shape = (n, len(cohort.outcome.tree.nodes)) if schema.target.kind == "hierarchy" else (n,)
    score = np.random.default_rng(1).normal(size=shape)
    return Design(replace(cohort, **changes), {"first": score})


def fitted(target: str = "binary") -> tuple[TableSpec, Design]:
    schema = schema_of(target)
    design = design_of(schema)
    return fit_table(schema, "net", design), design


def test_columns_name_their_input_and_kind() -> None:
    spec, design = fitted()
    assert spec.inputs == INPUTS
    assert [c.name for c in spec.columns if c.source == "radiomics"] == ["texture|a", "texture|b"]  # one is constant
    stage = spec.columns[spec.places("stage")[0]]
    assert (stage.kind, stage.levels) == ("category", ("I", "II", "III"))
    assert spec.categories == tuple(spec.places("stage"))
    assert len(spec.places("picture")) == 6
    age = spec.columns[spec.places("age")[0]]
    assert age.centre == pytest.approx(design.cohort.values["age"].mean())


def test_values_enter_as_they_are() -> None:
    spec, design = fitted()
    x = spec.matrix(design)
    assert x.shape == (60, len(spec.columns))
    for name in ("age", "marker", "stage"):
        np.testing.assert_array_equal(x[:, spec.places(name)[0]], design.cohort.values[name])
    np.testing.assert_array_equal(x[:, spec.places("texture")], design.cohort.features["texture"].x[:, :2])
    np.testing.assert_array_equal(x[:, spec.places("first")[0]], design.upstream["first"])
    assert np.isnan(x[::5, spec.places("marker")[0]]).all()


def test_pictures_of_a_unit_are_averaged() -> None:
    spec, design = fitted()
    table = design.cohort.images[spec.images["picture"].key]
    x = spec.matrix(design)[:, spec.places("picture")]
    for i in range(len(design.cohort)):
        mine = table.values()[table.row == i, 0].astype(np.float64)
        if len(mine):
            np.testing.assert_allclose(x[i], mine.sum(axis=0) / len(mine), rtol=1e-12)
        else:
            assert np.isnan(x[i]).all()
    np.testing.assert_array_equal(spec.present(design.cohort)["picture"], ~np.isnan(x).any(axis=1))


@pytest.mark.parametrize("plain", [True, False])
def test_views(plain: bool) -> None:
    """Stained copies stand behind the picture as it is, which counts alone; turned ones are averaged."""
    spec, design = fitted()
    key = spec.images["picture"].key
    values = np.random.default_rng(2).normal(size=(2, 3, 6)).astype(np.float32)
    table = ImageTable(values, np.arange(2), np.array([0, 1]))
    source = replace(spec.images["picture"], plain=plain)
    cohort = replace(design.cohort.take(np.arange(2)), images={key: table})
    x = replace(spec, sources=(source,)).matrix(Design(cohort, {"first": np.zeros(2)}))[:, spec.places("picture")]
    expected = values[:, 0] if plain else values.astype(np.float64).mean(axis=1)
    np.testing.assert_allclose(x, expected, rtol=1e-12)


def test_a_row_depends_on_its_own_unit_only() -> None:
    spec, design = fitted()
    x = spec.matrix(design)
    for part in (np.array([7]), np.array([20, 3, 3, 41])):
        alone = Design(design.cohort.take(part), {"first": design.upstream["first"][part]})
        np.testing.assert_array_equal(spec.matrix(alone), x[part])


def test_classes_give_a_column_per_node() -> None:
    spec, design = fitted("hierarchy")
    nodes = design.cohort.outcome.tree.nodes  # type: ignore[union-attr]
    assert [spec.columns[j].part for j in spec.places("first")] == list(nodes)
    hidden = Design(design.cohort.without_outcome(), design.upstream)
    np.testing.assert_array_equal(spec.matrix(hidden)[:, spec.places("first")], design.upstream["first"])


def test_json_keeps_everything() -> None:
    spec, design = fitted("hierarchy")
    again = table_from_json(json.loads(json.dumps(spec.to_json())))
    assert (again.columns, again.sources) == (spec.columns, spec.sources)
    assert json.dumps(again.to_json()) == json.dumps(spec.to_json())
    np.testing.assert_array_equal(again.matrix(design), spec.matrix(design))


def test_what_was_learnt_is_demanded() -> None:
    spec, design = fitted()
    cohort = design.cohort
    key = spec.images["picture"].key
    narrow = ImageTable(np.zeros((1, 1, 5), dtype=np.float32), np.array([0]), np.array([0]))
    for words, changed in (
        ("score of 'first'", Design(cohort)),
        ("1 features of 'texture'.*'b'", _with(design, features={"texture": FeatureTable(("a",), np.zeros((60, 1)))})),
        ("features of 'texture' were not computed", _with(design, features={})),
        ("images of 'picture' were not read", _with(design, images={})),
        ("5 numbers, 6 were learnt", _with(design, images={key: narrow})),
        ("values of 'marker'", _with(design, values={"age": np.zeros(60), "stage": np.zeros(60)})),
        ("'first' has 2 columns, 1", Design(cohort, {"first": np.zeros((60, 2))})),
    ):
        with pytest.raises(InvalidInputError, match=words):
            spec.matrix(changed)


def test_columns_in_another_order_are_found_by_name() -> None:
    spec, design = fitted()
    table = design.cohort.features["texture"]
    turned = FeatureTable(table.columns[::-1], table.x[:, ::-1])
    np.testing.assert_array_equal(spec.matrix(_with(design, features={"texture": turned})), spec.matrix(design))


def test_what_nobody_has_cannot_be_learnt() -> None:
    schema = schema_of()
    none = np.full(60, np.nan)
    empty = np.empty(0, dtype=np.intp)
    key = image_plan(schema, "net", "picture").key
    for changes in (
        {"values": {"age": none, "marker": none, "stage": none}},
        {"features": {"texture": FeatureTable(("a",), np.ones((60, 1)))}},
        {"images": {key: ImageTable(np.empty((0, 1, 6), dtype=np.float32), empty, empty)}},
    ):
        with pytest.raises(NotEstimableError):
            fit_table(schema, "net", design_of(schema, **changes))


def test_two_columns_of_one_name_are_refused() -> None:
    spec, _ = fitted()
    with pytest.raises(InvalidInputError, match="two columns are called 'age'"):
        replace(spec, columns=(*spec.columns, spec.columns[spec.places("age")[0]]))


def test_flags_say_what_is_missing_or_far() -> None:
    spec, design = fitted()
    values = dict(design.cohort.values)
    values["age"] = values["age"].copy()
    values["age"][1] = 400.0
    cohort: Cohort = replace(design.cohort, values=values)
    flags = spec.flags(cohort)
    far = [flag for flag in flags if flag.code == "extrapolated"]
    age = spec.columns[spec.places("age")[0]]
    assert [(flag.unit, flag.input) for flag in far if flag.input == "age"] == [(cohort.units[1], "age")]
    assert far[0].value == pytest.approx((400.0 - age.centre) / age.spread)  # type: ignore[operator]
    missing = {(flag.unit, flag.input) for flag in flags if flag.code == "missing"}
    assert missing == {
        *((cohort.units[i], "picture") for i in range(0, 60, 7)),
        *((cohort.units[i], "marker") for i in range(0, 60, 5)),
        (cohort.units[3], "texture"),
    }


def _with(design: Design, **changes: Any) -> Design:
    return Design(replace(design.cohort, **changes), design.upstream)
