"""Skips are plain, and become failures where the thing is required."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import data_path, reference_table, require


def test_what_is_not_required_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSML_REQUIRE", "peers, browser")
    with pytest.raises(
        pytest.skip.Exception, match=r"no such folder .not required here: .OSML_REQUIRE does not name 'data'"
    ):
        require("data", "no such folder")


@pytest.mark.parametrize("required", ["data", "peers, data", " data ,browser"])
def test_what_is_required_fails(monkeypatch: pytest.MonkeyPatch, required: str) -> None:
    monkeypatch.setenv("OSML_REQUIRE", required)
    with pytest.raises(pytest.fail.Exception, match=r"data is required here .*: no such folder"):
        require("data", "no such folder")


def test_real_data_are_found_through_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OSML_DATA", str(tmp_path))
    monkeypatch.delenv("OSML_REQUIRE", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"no real data at .*cohort.csv"):
        data_path("cohort.csv")
    monkeypatch.setenv("OSML_REQUIRE", "data")
    with pytest.raises(pytest.fail.Exception, match=r"no real data at .*cohort.csv"):
        data_path("cohort.csv")
    (tmp_path / "cohort.csv").write_text("id\n1\n")
    assert data_path("cohort.csv") == tmp_path / "cohort.csv"


@pytest.mark.parametrize("name", ["birthwt.csv", "pima_tr.csv", "pima_te.csv"])
def test_textbook_tables_lie_with_the_tests(name: str) -> None:
    assert reference_table(name).is_file()
