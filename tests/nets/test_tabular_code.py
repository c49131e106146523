from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from osml.errors import InvalidInputError
from osml.nets.branches import Columns
from osml.nets.recipe import Modality
from osml.nets.tabular import Column, fit_tabular, tabular_from_json, tabular_to_json

COLUMNS = (
    Column("tumour_size", "standard"),
    Column("age", "divide", divide=100),
    Column("sex", "binary"),
    Column("alp", "kit"),
    Column("site", "category", levels=3),
)
NAN = np.nan
VALUES = {
    "tumour_size": np.array([2.0, 4.0, 6.0, NAN]),
    "age": np.array([10.0, 20.0, 30.0, 40.0]),
    "sex": np.array([0.0, 1.0, 1.0, 0.0]),
    "alp": np.array([45.0, 125.0, 300.0, 60.0]),
    "site": np.array([0.0, 2.0, NAN, 2.0]),
}
# The last row's kit has no upper limit.
KIT = {"alp": (np.array([45.0, 45.0, 100.0, 30.0]), np.array([125.0, 125.0, 200.0, NAN]))}


def test_how_each_kind_enters() -> None:
    code = fit_tabular(COLUMNS, VALUES, KIT)
    assert code.names == ("tumour_size", "age", "sex", "alp", "site=0", "site=1", "site=2")
    sd = np.sqrt(8 / 3)
    expected = [
        [-2 / sd, 0.1, -0.5, 0.0, 1, 0, 0],
        [0, 0.2, 0.5, 1.0, 0, 0, 1],
        [2 / sd, 0.3, 0.5, 2.0, NAN, NAN, NAN],
        [NAN, 0.4, -0.5, NAN, 0, 0, 1],
    ]
    assert_allclose(code.encode(VALUES, KIT), expected, rtol=1e-6, atol=1e-7)


def test_missing_values_start_at_the_training_mean_and_have_an_indicator() -> None:
    code = fit_tabular(COLUMNS, VALUES, KIT)
    assert_allclose(code.start, [0, 0.25, 0, 1, 1 / 3, 0, 2 / 3], atol=1e-12)
    assert code.indicators == ((0,), (3,), (4, 5, 6))
    layer = Columns(Modality("table", "tabular", code.width, start=code.start, indicators=code.indicators))
    out = layer(torch.as_tensor(code.encode(VALUES, KIT))).detach().numpy()
    assert out.shape == (4, 10)
    assert_array_equal(out[:, 7:], [[0, 0, 0], [0, 0, 0], [0, 0, 1], [1, 1, 0]])
    assert_allclose(out[2, 4:7], [1 / 3, 0, 2 / 3], rtol=1e-6)


def test_the_value_in_place_of_a_missing_one_is_learned() -> None:
    layer = Columns(Modality("table", "tabular", 2, start=(0.0, 0.0), indicators=((0,),)))
    layer(torch.tensor([[NAN, 1.0], [3.0, 2.0]])).sum().backward()
    assert layer.token.grad.tolist() == [1.0, 0.0]


def test_new_rows_use_what_training_taught() -> None:
    code = fit_tabular([Column("x", "standard")], {"x": np.array([1.0, 3.0])}, {})
    assert code.encode({"x": np.array([5.0])}, {}).tolist() == [[3.0]]


def test_a_column_without_spread_stays_finite() -> None:
    code = fit_tabular([Column("x", "standard")], {"x": np.full(7, 0.1)}, {})
    assert_allclose(code.encode({"x": np.array([0.1, 0.6])}, {}), [[0.0], [0.5]], atol=1e-6)


def test_json_round_trip() -> None:
    code = fit_tabular(COLUMNS, VALUES, KIT)
    assert tabular_from_json(json.loads(json.dumps(tabular_to_json(code)))) == code


@pytest.mark.parametrize(
    "column, values, kit, message",
    [
        (Column("x", "standard"), [NAN, NAN], None, "no value in the 2 training rows"),
        (Column("x", "standard"), [1.0, np.inf], None, "infinite"),
        (Column("x", "binary"), [0.0, 2.0], None, "holds 2, which is no position among its 2 levels"),
        (Column("x", "category", levels=3), [0.5, 2.0], None, "holds 0.5"),
        (Column("x", "kit"), [1.0, 2.0], None, "none is given"),
        (Column("x", "kit"), [1.0, 2.0], ([1.0, 5.0], [4.0, 5.0]), "reference range 5 to 5 in row 1"),
    ],
)
def test_refusals(
    column: Column, values: list[float], kit: tuple[list[float], list[float]] | None, message: str
) -> None:
    ranges = {} if kit is None else {"x": (np.array(kit[0]), np.array(kit[1]))}
    with pytest.raises(InvalidInputError, match=message):
        fit_tabular([column], {"x": np.array(values)}, ranges)
