"""Whole files or none, and equal content in equal bytes."""

from __future__ import annotations

import csv
import json
import os
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osml.files import atomic_write, json_text, read_json, sha256_file, spreadsheet_safe, write_csv, write_json


def test_a_write_creates_folders_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b" / "c.txt"
    atomic_write(file, "µ")
    assert file.read_bytes() == "µ".encode()
    assert [p.name for p in file.parent.iterdir()] == ["c.txt"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o644


def test_a_failed_write_keeps_the_old_file_and_removes_its_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "model.json"
    atomic_write(file, "old")

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        atomic_write(file, "new")
    assert file.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["model.json"]


def test_writers_at_the_same_time_leave_one_whole_file(tmp_path: Path) -> None:
    file = tmp_path / "x.bin"
    contents = [bytes([k]) * 200_000 for k in range(8)]
    threads = [threading.Thread(target=atomic_write, args=(file, content)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert file.read_bytes() in contents
    assert [p.name for p in tmp_path.iterdir()] == ["x.bin"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [1, -float("inf")]}])
def test_json_refuses_what_is_not_json(value: object) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_text(value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=60)
@given(json_values)
def test_json_comes_back_exactly(value: object) -> None:
    text = json_text(value)
    assert json.loads(text) == value
    assert text == json_text(json.loads(text))


def test_read_json_inverts_write_json(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 0.1 + 0.2, "é": None})
    assert read_json(tmp_path / "a.json") == {"b": 0.30000000000000004, "é": None}


def test_csv_keeps_numbers_whole_and_leaves_none_empty(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", ("x", "y"), [(0.1 + 0.2, None), (-1e-300, "a,b")])
    assert (tmp_path / "a.csv").read_bytes() == b'x,y\n0.30000000000000004,\n-1e-300,"a,b"\n'


@settings(max_examples=60)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_never_taken_for_a_formula(x: float) -> None:
    assert spreadsheet_safe(x) == x
    assert spreadsheet_safe(repr(x)) == repr(x)


@pytest.mark.parametrize("cell", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1"])
def test_formulas_are_neutralised(cell: str, tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", ("x",), [(cell,)])
    with (tmp_path / "a.csv").open(newline="") as stream:
        assert list(csv.reader(stream))[1] == ["'" + cell]


@pytest.mark.parametrize("cell", ["a\rb", "a\nb", "a\r\nb", 'a"b'])
def test_a_line_break_in_a_cell_does_not_split_the_row(cell: str, tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", ("x", "y"), [(cell, 1), ("c", 2)])
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as stream:
        assert list(csv.reader(stream)) == [["x", "y"], [cell, "1"], ["c", "2"]]


@pytest.mark.parametrize("cell", ["-", "+", "=", "no", "P-1", ""])
def test_plain_texts_stay(cell: str) -> None:
    assert spreadsheet_safe(cell) == cell


def test_sha256_of_a_known_text(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    assert sha256_file(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
