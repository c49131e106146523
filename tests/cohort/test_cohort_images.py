"""Images of units in a cohort: several per patient, missing ones, positions of tiles, and the table of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import CLINIC_HEADER, binary_cohort, built, clinic_rows, hierarchy_target, network_schema, refused, study
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from osml.codes import Finding
from osml.cohort.build import BuiltCohort, read_cohort
from osml.cohort.checks import Evidence, run_checks
from osml.cohort.checks import tiles as tiles_check
from osml.cohort.cohort import Cohort, ImageTable
from osml.cohort.table import Table
from osml.runs.cohort_store import load_cohort, write_cohort
from osml.schema.model import Position, Schema
from osml.study.images import missing_files

Data = dict[str, Any]
Change = Callable[[Data], Any]
HEADER = (*CLINIC_HEADER, "file", "low", "high")


def rows_of(*files: Sequence[str]) -> list[list[str]]:
    """Clinic rows; patient i has one row for each of its files."""
    rows = [[*row, f, "40", "120"] for row, paths in zip(clinic_rows(), files, strict=False) for f in paths]
    return rows + [[*row, "z.png", "40", "120"] for row in clinic_rows()[len(files) :]]


def imaged(*changes: Change, several: bool = True) -> Change:
    def change(data: Data) -> None:
        data["inputs"]["xray"] = {"kind": "image", "column": "file", "several": several, "available": "visit"}
        kit = {"low": "low", "high": "high"}
        data["inputs"]["alp"] = {"kind": "lab", "unit": "U/L", "column": "age", "kit": kit, "available": "visit"}
        data["predictors"] = {"net": {"kind": "network", "inputs": ["xray", "age", "alp"]}}
        for one in changes:
            one(data)

    return change


def test_all_paths_of_a_patient_are_gathered_once_and_in_order(tmp_path: Path) -> None:
    rows = rows_of(["b.png", "a.png", "b.png"], ["", "c.png"], ["d.png", ""])
    rows[2][4] = "b.png"
    rows[2] = [*rows[2], "third row"]
    rows = [row if len(row) == 8 else [*row, ""] for row in rows]
    cohort = built(tmp_path, rows, (*HEADER, "note"), imaged()).cohort
    assert cohort.paths("xray")[:4] == (("b.png", "a.png"), ("c.png",), ("d.png",), ("z.png",))
    assert len(cohort) == 12
    assert cohort.units[:2] == ("P00", "P01")


def test_paths_that_lead_nowhere_are_found_in_every_row(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch(), (tmp_path / "z.png").touch()
    loaded = study(tmp_path, rows_of(["a.png", "gone.png"]), HEADER, imaged())
    assert missing_files(loaded, read_cohort(loaded).cohort) == [("P00", "xray", "gone.png")]


def test_without_several_paths_must_agree(tmp_path: Path) -> None:
    rows = rows_of(["a.png", "b.png"])
    message = refused(tmp_path, rows, HEADER, imaged(several=False))
    assert "differs from line 2 of the same patient in the path of xray: line 3 (P00)" in message
    assert built(tmp_path, rows, HEADER, imaged()).cohort.paths("xray")[0] == ("a.png", "b.png")


@pytest.mark.parametrize(
    "column, text, said",
    [
        ("age", "99", "age"), ("sex", "female", "sex"), ("outcome", "no", "the outcome"),
        ("low", "39", "the lower kit limit of alp"),
    ],
)  # fmt: skip
def test_several_pictures_do_not_excuse_other_cells_that_differ(
    tmp_path: Path, column: str, text: str, said: str
) -> None:
    rows = rows_of(["a.png", "b.png"])
    rows[1][HEADER.index(column)] = text
    message = refused(tmp_path, rows, HEADER, imaged())
    assert f"differs from line 2 of the same patient in {said}" in message
    assert "the path of xray" not in message


def test_a_row_that_repeats_another_is_refused_even_so(tmp_path: Path) -> None:
    message = refused(tmp_path, rows_of(["a.png", "a.png"]), HEADER, imaged())
    assert "this row repeats line 2; keep one: line 3 (P00)" in message


def test_rows_that_are_units_have_their_own_pictures(tmp_path: Path) -> None:
    rows = [[*row, f"v{i}"] for i, row in enumerate(rows_of(["a.png", "b.png"]))]
    change = imaged(lambda d: d["cohort"].update(row="view"), several=False)
    cohort = built(tmp_path, rows, (*HEADER, "view"), change).cohort
    assert cohort.paths("xray")[:2] == (("a.png",), ("b.png",))


def test_patients_without_an_image_leave_a_complete_case_study_and_stay_in_an_imputed_one(tmp_path: Path) -> None:
    rows = rows_of(["", ""], ["", "b.png"])
    rows[1] = [*rows[1][:5], "40", "120"]
    rows[0], rows[1] = [*rows[0], "first"], [*rows[1], "second"]
    rows = [row if len(row) == 8 else [*row, ""] for row in rows]
    result = built(tmp_path, rows, (*HEADER, "note"), imaged())
    told = [(e.patient, e.reason, e.where) for e in result.cohort.exclusions]
    assert told == [("P00", "xray missing (complete_case)", "clinic.csv:2")]
    assert len(result.eligible) == 12
    assert result.cohort.paths("xray")[0] == ("b.png",)
    kept = built(tmp_path, rows, (*HEADER, "note"), imaged(lambda d: d.update(missing="impute"))).cohort
    assert kept.paths("xray")[:2] == ((), ("b.png",))
    assert kept.exclusions == ()


def test_an_image_that_no_network_reads_may_be_missing(tmp_path: Path) -> None:
    change = imaged(lambda d: d["predictors"]["net"].update(inputs=["age", "alp"]))
    assert built(tmp_path, rows_of([""]), HEADER, change).cohort.exclusions == ()


@pytest.mark.parametrize("encode, gone", [({"alp": "kit"}, True), ({"alp": {"divide": 100}}, False), ({}, False)])
def test_a_kit_range_is_needed_only_where_a_network_encodes_by_it(tmp_path: Path, encode: Data, gone: bool) -> None:
    rows = rows_of(["a.png"])
    rows[0][5] = ""
    result = built(tmp_path, rows, HEADER, imaged(lambda d: d["predictors"]["net"].update(encode=encode)))
    reasons = [(e.patient, e.reason) for e in result.cohort.exclusions]
    assert reasons == ([("P00", "kit range of alp missing (complete_case)")] if gone else [])


# Tiles on slides ----------------------------------------


def tiles(*cells: tuple[str, str, str, str]) -> list[list[str]]:
    """(patient, slide, x, y) of tiles; twelve more of other slides far apart, so that every class occurs."""
    more = [(f"Q{i}", f"other {i}", "0", "0") for i in range(12)]
    tissue = ("non_tumor", "viable", "non_viable")
    return [[p, f"t{i}", s, x, y, tissue[i % 3], str(i)] for i, (p, s, x, y) in enumerate((*cells, *more))]


def found(folder: Path, *cells: tuple[str, str, str, str]) -> list[Finding]:
    def change(data: Data) -> None:
        data["cohort"] |= {"row": "tile", "position": {"slide": "slide", "x": "x", "y": "y", "size": 100}}
        data["target"] = hierarchy_target(partial={})
        data["inputs"] = {"age": {"kind": "number", "unit": "year", "available": "visit"}}
        data["predictors"] = {"net": {"kind": "network", "inputs": ["age"]}}

    loaded = study(folder, tiles(*cells), ("id", "tile", "slide", "x", "y", "tissue", "age"), change)
    findings = run_checks(loaded.schema, read_cohort(loaded))
    return [finding for finding in findings if finding.code in ("OSML023", "OSML024")]


def test_osml023_a_slide_of_two_patients(tmp_path: Path) -> None:
    apart = (("A", "s1", "0", "0"), ("B", "s1", "500", "0"), ("A", "s2", "0", "0"))
    assert found(tmp_path, *apart) == [Finding("OSML023", "slide 's1' belongs to A, B")]
    same = (("A", "s1", "0", "0"), ("A", "s1", "500", "0"), ("B", "s2", "0", "0"))
    assert found(tmp_path, *same) == []


def test_osml023_is_found_where_positions_are_no_numbers(tmp_path: Path) -> None:
    cells = (("A", "s1", "left", "0"), ("B", "s1", "500", "0"))
    assert found(tmp_path, *cells) == [
        Finding("OSML023", "slide 's1' belongs to A, B"),
        Finding("OSML024", "'x' and 'y' are not all numbers: overlaps were not looked for"),
    ]


@pytest.mark.parametrize("cell", ["nan", "inf", ""])
def test_osml024_is_told_where_a_position_is_not_finite(tmp_path: Path, cell: str) -> None:
    (only,) = found(tmp_path, ("A", "s1", "0", cell), ("A", "s1", "0", "0"))
    assert only == Finding("OSML024", "'x' and 'y' are not all numbers: overlaps were not looked for")


def test_a_slide_of_many_thousand_tiles_is_looked_through_quickly() -> None:
    n = 60_000  # a table of all pairs would take 29 GB
    patients = ["A"] * n
    x, y = 100 * (np.arange(n) % 300), 100 * (np.arange(n) // 300)
    x[1] -= 1  # now it overlaps with its left neighbour
    keys = {"slide": ["s"] * n, "x": [str(v) for v in x], "y": [str(v) for v in y]}
    cohort = binary_cohort(patients, [False] * n, **keys)
    place = Position(slide="slide", x="x", y="y", size=100)
    schema = Schema.model_validate(network_schema())
    schema = schema.model_copy(update={"cohort": schema.cohort.model_copy(update={"position": place})})
    table = Table("t", ("a",), (), (), "")
    evidence = Evidence(schema, BuiltCohort(cohort, cohort, table, {}, n))
    assert list(tiles_check(evidence)) == [Finding("OSML024", "1 pairs of tiles overlap within their slide")]


def test_tiles_of_no_slide_are_of_no_common_slide(tmp_path: Path) -> None:
    assert found(tmp_path, ("A", "", "0", "0"), ("B", "", "0", "0")) == []


@pytest.mark.parametrize(
    "x, y, pairs", [("99", "99", 1), ("-99.5", "0", 1), ("100", "0", 0), ("0", "100", 0), ("0", "0", 1)]
)
def test_osml024_tiles_overlap_where_both_distances_are_below_the_size(
    tmp_path: Path, x: str, y: str, pairs: int
) -> None:
    findings = found(tmp_path, ("A", "s1", "0", "0"), ("A", "s1", x, y), ("A", "s2", "0", "0"))
    said = [Finding("OSML024", "1 pairs of tiles overlap within their slide")]
    assert findings == (said if pairs else [])


@given(spots=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 300), st.integers(0, 300)), min_size=1, max_size=12))
def test_overlaps_are_the_pairs_that_counting_finds(
    tmp_path_factory: pytest.TempPathFactory, spots: list[tuple[int, int, int]]
) -> None:
    cells = [("A", f"s{k}", str(x), str(y)) for k, x, y in spots]
    pairs = sum(
        a[0] == b[0] and abs(a[1] - b[1]) < 100 and abs(a[2] - b[2]) < 100
        for i, a in enumerate(spots)
        for b in spots[:i]
    )
    findings = found(tmp_path_factory.mktemp("tiles"), *cells)
    assert findings == ([Finding("OSML024", f"{pairs} pairs of tiles overlap within their slide")] if pairs else [])


# The table of images ----------------------------------------


@st.composite
def tables(draw: st.DrawFn) -> tuple[ImageTable, list[list[int]]]:
    """A table, and the images of each unit as lists."""
    counts = draw(st.lists(st.integers(0, 3), min_size=1, max_size=8))
    order = draw(st.permutations(range(sum(counts))))
    row = np.repeat(np.arange(len(counts)), counts)
    item = np.array(order, dtype=np.intp)
    return ImageTable(np.arange(sum(counts))[:, None] * 10, item, row), lists(row, item, len(counts))


def lists(row: Any, item: Any, n: int) -> list[list[int]]:
    return [item[row == i].tolist() for i in range(n)]


@given(made=tables(), data=st.data())
def test_taking_units_takes_their_images_in_that_order(
    made: tuple[ImageTable, list[list[int]]], data: st.DataObject
) -> None:
    table, images = made
    n = len(images)
    index = data.draw(st.lists(st.integers(0, n - 1), max_size=12))
    taken = table.take(np.array(index, dtype=np.intp))
    assert lists(taken.row, taken.item, len(index)) == [images[i] for i in index]
    assert (np.diff(taken.row) >= 0).all()
    assert_array_equal(taken.values()[:, 0], 10 * taken.item)
    assert taken.shape() == table.shape()
    if index:
        again = np.array(data.draw(st.lists(st.integers(0, len(index) - 1), max_size=12)), dtype=np.intp)
        twice, once = taken.take(again), table.take(np.array(index, dtype=np.intp)[again])
        assert_array_equal(twice.item, once.item)
        assert_array_equal(twice.row, once.row)
    whole = table.take(np.arange(n))
    assert_array_equal(whole.item, table.item)
    assert_array_equal(whole.row, table.row)


@given(made=tables(), data=st.data())
def test_a_cohort_takes_its_images_along(made: tuple[ImageTable, list[list[int]]], data: st.DataObject) -> None:
    table, images = made
    n = len(images)
    patients = [f"P{data.draw(st.integers(0, 3))}" for _ in range(n)]
    cohort = replace(
        binary_cohort(patients, [True] * n),
        images={"k": table},
        several={"xray": tuple(tuple(map(str, paths)) for paths in images)},
    )
    ids = cohort.patient_ids
    draws = data.draw(st.lists(st.integers(0, len(ids) - 1), min_size=1, max_size=6))
    wanted = [images[i] for draw in draws for i, p in enumerate(patients) if p == ids[draw]]
    drawn = cohort.resample(draws)
    assert lists(drawn.images["k"].row, drawn.images["k"].item, len(drawn)) == wanted
    assert [list(map(int, paths)) for paths in drawn.paths("xray")] == wanted
    some = cohort.of(ids[:1])
    kept = [images[i] for i, p in enumerate(patients) if p == ids[0]]
    assert lists(some.images["k"].row, some.images["k"].item, len(some)) == kept
    gone = np.array([p == ids[0] for p in patients])
    left = cohort.excluding(gone, [])
    assert lists(left.images["k"].row, left.images["k"].item, len(left)) == [
        images[i] for i, p in enumerate(patients) if p != ids[0]
    ]
    assert list(cohort.with_features_of([], ["k"]).images) == ["k"]
    assert list(cohort.with_features_of([]).images) == []


def test_a_table_in_a_file_reads_as_one_in_memory(tmp_path: Path) -> None:
    stored = np.random.default_rng(0).normal(size=(5, 2, 3)).astype(np.float32)
    np.save(tmp_path / "t.npy", stored)
    item, row = np.array([4, 0, 2]), np.array([0, 0, 2])
    on_disk, in_memory = ImageTable(tmp_path / "t.npy", item, row), ImageTable(stored, item, row)
    assert on_disk.shape() == in_memory.shape() == (5, 2, 3)
    index = np.array([2, 1, 0, 0])
    assert_array_equal(on_disk.take(index).values(), in_memory.take(index).values())
    assert_array_equal(on_disk.take(index).values(), stored[[2, 4, 0, 4, 0]])


def with_images(folder: Path) -> Cohort:
    rows = rows_of(["b.png", "a.png"], ["", "c.png"], [""])
    cohort = built(folder, rows, HEADER, imaged(lambda d: d.update(missing="impute"))).cohort
    stored = np.arange(22, dtype=np.float32).reshape(11, 1, 2)
    np.save(folder / "stored.npy", stored)
    table = ImageTable(folder / "stored.npy", np.arange(11), np.array([0, 0, 1, *range(4, 12)]))
    return replace(cohort, images={"xray@12": table})


def test_a_stored_cohort_has_its_paths_and_images(tmp_path: Path) -> None:
    cohort = with_images(tmp_path)
    write_cohort(tmp_path / "run" / "cohort.parquet", cohort)
    again = load_cohort(tmp_path / "run" / "cohort.parquet")
    assert again.several == cohort.several
    assert again.paths("xray")[:3] == (("b.png", "a.png"), ("c.png",), ())
    assert again.files == cohort.files
    table, read = cohort.images["xray@12"], again.images["xray@12"]
    assert read.stored == table.stored
    assert_array_equal(read.item, table.item)
    assert_array_equal(read.row, table.row)
    assert_array_equal(again.resample([2, 1, 0]).images["xray@12"].values(), table.values()[[2, 0, 1]])


def test_a_cohort_in_which_nobody_has_a_picture_is_read_back(tmp_path: Path) -> None:
    cohort = replace(with_images(tmp_path), several={"xray": ((),) * 12}, images={})
    write_cohort(tmp_path / "run" / "cohort.parquet", cohort)
    assert load_cohort(tmp_path / "run" / "cohort.parquet").paths("xray") == ((),) * 12
