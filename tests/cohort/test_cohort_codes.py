"""Every coded check of data and sample: it fires on what it is for, and stays silent on a plain cohort."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import CLINIC_HEADER, built, study, survival_target

from osml.codes import BY_CODE, CODES, Finding
from osml.cohort.build import read_cohort
from osml.cohort.checks import CHECKS, identifier_words, run_checks
from osml.study.model_checks import model_checks

Rows = list[list[str]]
N = 600
TESTED = [f"OSML0{number}" for number in (*range(10, 20), *range(40, 44))]


def _rows(n: int = N, seed: int = 3) -> Rows:
    """A plain cohort: age a little higher in those with the event, sex unrelated, one event in three."""
    rng = np.random.default_rng(seed)
    event = np.arange(n) % 3 == 0
    age = rng.normal(55 + 4 * event, 10).round(1)
    sex = rng.integers(0, 2, n)
    return [[f"P{i:03d}", str(age[i]), ("male", "female")[sex[i]], "yes" if event[i] else "no"] for i in range(n)]


def _with(values: Sequence[str], rows: Rows | None = None) -> Rows:
    """The plain cohort with one more column."""
    return [[*row, value] for row, value in zip(rows or _rows(), values, strict=True)]


def _number(column: str = "x", **keys: Any) -> Callable[[dict[str, Any]], None]:
    def change(data: dict[str, Any]) -> None:
        data["inputs"]["extra"] = {"kind": "number", "column": column, "available": "visit", **keys}
        data["predictors"]["clinical"]["inputs"].append("extra")

    return change


def _category(levels: Sequence[str], **predictor: Any) -> Callable[[dict[str, Any]], None]:
    def change(data: dict[str, Any]) -> None:
        data["inputs"]["extra"] = {"kind": "category", "column": "x", "levels": list(levels), "available": "visit"}
        data["predictors"]["clinical"]["inputs"].append("extra")
        data["predictors"]["clinical"] |= predictor

    return change


def _findings(folder: Path, rows: Rows, change: Any = None, column: str = "x") -> list[Finding]:
    header = CLINIC_HEADER if len(rows[0]) == len(CLINIC_HEADER) else (*CLINIC_HEADER, column)
    loaded = study(folder, rows, header, change)
    result = read_cohort(loaded)
    return run_checks(loaded.schema, result) + model_checks(loaded.schema, result)


def _of(code: str, findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.code == code]


def _noise(n: int = N, seed: int = 5) -> list[str]:
    return [f"{x:.2f}" for x in np.random.default_rng(seed).normal(50, 9, n)]


def test_a_plain_cohort_has_no_finding(tmp_path: Path) -> None:
    assert _findings(tmp_path, _with(_noise()), _number()) == []


def test_codes_are_complete_and_distinct() -> None:
    assert len({code.code for code in CODES}) == len(CODES) == len(BY_CODE)
    assert set(TESTED) <= set(BY_CODE)
    for code in CODES:
        assert code.severity in ("refuse", "warn", "note")
        assert all(text.endswith(".") for text in (code.why, code.fix))
    assert len(CHECKS) == len({check.__name__ for check in CHECKS})
    documented = " ".join(check.__doc__ or "" for check in CHECKS)
    assert all(f"OSML0{number}" in documented for number in range(10, 18))


@pytest.mark.parametrize(
    "column, words",
    [("PatientID", ["id"]), ("patient_name", ["name"]), ("MRN", ["mrn"]), ("DOB", ["dob"]), ("zip.code", ["zip"])],
)
def test_osml010_by_heading(tmp_path: Path, column: str, words: list[str]) -> None:
    assert identifier_words(column) == words
    found = _of("OSML010", _findings(tmp_path, _with(_noise()), _number(column), column))
    assert [(f.subject, f.evidence) for f in found] == [
        ("extra", f"column {column!r} is named like one ({', '.join(words)})")
    ]


@pytest.mark.parametrize("column", ["hybrid", "grid", "thyroid", "peptide", "hospitalisation", "ldh", "identity_ratio"])
def test_osml010_not_by_part_of_a_word(column: str) -> None:
    assert identifier_words(column) == []


@pytest.mark.parametrize(
    "values, said",
    [
        ([str(i + 1) for i in range(N)], "the values count the patients: 1 to 600"),
        ([str(4_000_000 + 37 * i) for i in range(N)], "every patient has another whole number of 7 digits"),
    ],
)
def test_osml010_by_values(tmp_path: Path, values: list[str], said: str) -> None:
    found = _of("OSML010", _findings(tmp_path, _with(values), _number()))
    assert [f.evidence for f in found] == [said]


def test_osml010_not_for_measurements(tmp_path: Path) -> None:
    platelets = [str(150_000 + 211 * ((7 * i) % N)) for i in range(N)]
    assert not _of("OSML010", _findings(tmp_path, _with(platelets), _number(unit="/µL")))
    whole = [str(3 * i) for i in range(N)]
    assert not _of("OSML010", _findings(tmp_path, _with(whole), _number()))


def test_osml010_by_levels(tmp_path: Path) -> None:
    rows = _rows(20)
    found = _of(
        "OSML010",
        _findings(tmp_path, _with([f"L{i}" for i in range(20)], rows), _category([f"L{i}" for i in range(20)])),
    )
    assert [f.evidence for f in found] == ["20 levels for 20 patients"]


def test_osml011(tmp_path: Path) -> None:
    found = _of("OSML011", _findings(tmp_path, _with(["7"] * N), _number()))
    assert [(f.subject, f.evidence) for f in found] == [("extra", "every patient has '7'")]
    rows = _with(["a"] * N)
    assert [f.evidence for f in _of("OSML011", _findings(tmp_path, rows, _category(["a", "b"])))] == [
        "every patient has 'a'"
    ]

    def impute(data: dict[str, Any]) -> None:
        _number()(data)
        data["missing"] = "impute"

    loaded = study(tmp_path, _with([""] * N), (*CLINIC_HEADER, "x"), impute)
    found = _of("OSML011", run_checks(loaded.schema, read_cohort(loaded)))
    assert [f.evidence for f in found] == ["every value is missing"]


@pytest.mark.parametrize("few, fires", [(4, True), (5, False)])
def test_osml012(tmp_path: Path, few: int, fires: bool) -> None:
    # `few` events (rows 0, 3, 6, …) and as many non-events hold the rare level.
    rare = {3 * i for i in range(few)} | {3 * i + 1 for i in range(5)}
    values = ["rare" if i in rare else "common" for i in range(N)]
    found = _of("OSML012", _findings(tmp_path, _with(values), _category(["common", "rare"])))
    assert bool(found) is fires
    if fires:
        assert found[0].evidence == "level 'rare': 9 patients, 4 with the event"
        assert found[0].subject == "extra"


def test_osml013_binary(tmp_path: Path) -> None:
    event = np.arange(N) % 3 == 0
    proxy = [f"{x:.3f}" for x in np.random.default_rng(1).normal(0, 1, N) + 6 * event]
    found = _of("OSML013", _findings(tmp_path, _with(proxy), _number()))
    assert [f.subject for f in found] == ["extra"]
    assert "alone it separates the classes with an AUC of 1.000" in found[0].evidence
    lower = [str(-float(x)) for x in proxy]
    assert _of("OSML013", _findings(tmp_path, _with(lower), _number()))
    levels = [("b", "a", "a")[i % 3] if i > 5 else "a" for i in range(N)]
    assert _of("OSML013", _findings(tmp_path, _with(levels), _category(["a", "b"])))
    weak = [f"{x:.3f}" for x in np.random.default_rng(1).normal(0, 1, N) + 2 * event]
    assert not _of("OSML013", _findings(tmp_path, _with(weak), _number()))


def test_osml013_survival(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    months = rng.exponential(20, N).round(2) + 0.1
    rows = [[*row[:3], str(int(i % 3 == 0)), f"{months[i]:.2f}"] for i, row in enumerate(_rows())]

    def change(extra: list[str]) -> list[Finding]:
        def edit(data: dict[str, Any]) -> None:
            _number()(data)
            data["target"] = survival_target(event="outcome", time="months")

        header = (*CLINIC_HEADER, "months", "x")
        loaded = study(tmp_path, [[*row, value] for row, value in zip(rows, extra, strict=True)], header, edit)
        return _of("OSML013", run_checks(loaded.schema, read_cohort(loaded)))

    found = change([f"{m + 0.01 * i / N:.4f}" for i, m in enumerate(months)])
    assert [f.subject for f in found] == ["extra"]
    assert "rank correlation with the follow-up time is 1.000" in found[0].evidence
    assert change(_noise()) == []


def test_osml014(tmp_path: Path) -> None:
    found = _of("OSML014", _findings(tmp_path, _with(_noise()), _number(available="surgery")))
    assert [(f.subject, f.evidence) for f in found] == [
        ("extra", "known at 'surgery', predicted at 'visit', used by clinical")
    ]

    def unused(data: dict[str, Any]) -> None:
        _number(available="surgery")(data)
        data["predictors"]["clinical"]["inputs"] = ["age", "sex"]

    assert not _of("OSML014", _findings(tmp_path, _with(_noise()), unused))

    def later(data: dict[str, Any]) -> None:
        _number(available="surgery")(data)
        data["time_of_prediction"] = "surgery"

    assert not _of("OSML014", _findings(tmp_path, _with(_noise()), later))


def test_osml015(tmp_path: Path) -> None:
    rows = _with(_noise())
    rows[9][1:3], rows[9][4] = rows[4][1:3], rows[4][4]
    found = _of("OSML015", _findings(tmp_path, rows, _number()))
    assert [f.evidence for f in found] == ["P004 and P009 agree in all 3 inputs"]
    rows[9][4] = "51.234"
    assert not _of("OSML015", _findings(tmp_path, rows, _number()))


def test_osml015_not_within_a_patient(tmp_path: Path) -> None:
    rows = [[*row, f"v{i}"] for i, row in enumerate(_with(_noise()))]
    rows.append([*rows[4][:5], "v600"])

    def change(data: dict[str, Any]) -> None:
        _number()(data)
        data["cohort"]["row"] = "visit"

    result = built(tmp_path, rows, (*CLINIC_HEADER, "x", "visit"), change)
    loaded = study(tmp_path, rows, (*CLINIC_HEADER, "x", "visit"), change)
    assert not _of("OSML015", run_checks(loaded.schema, result))


def test_osml016(tmp_path: Path) -> None:
    values = _noise()
    values[0], values[1], values[2] = "<30", "<30", ">90"
    found = _of("OSML016", _findings(tmp_path, _with(values), _number(censored={"below": "half", "above": "limit"})))
    assert [(f.subject, f.evidence) for f in found] == [("extra", "1 cells, above: limit; 2 cells, below: half")]
    assert BY_CODE["OSML016"].severity == "note"


@pytest.mark.parametrize("missing", ["impute", "complete_case"])
@pytest.mark.parametrize("gone, fires", [(241, True), (240, False)])
def test_osml017(tmp_path: Path, gone: int, fires: bool, missing: str) -> None:
    def change(data: dict[str, Any]) -> None:
        _number()(data)
        data["missing"] = missing

    # Every third patient has the event: blocks of rows are missing alike with and without it.
    values = ["" if i < gone else x for i, x in enumerate(_noise())]
    found = _of("OSML017", _findings(tmp_path, _with(values), change))
    assert [f.evidence for f in found] == (["40 % missing"] if fires else [])


def test_osml018(tmp_path: Path) -> None:
    def change(data: dict[str, Any]) -> None:
        _number()(data)
        data["missing"] = "impute"

    values = ["" if i % 3 == 0 and i < 120 else x for i, x in enumerate(_noise())]
    found = _of("OSML018", _findings(tmp_path, _with(values), change))
    assert [f.subject for f in found] == ["extra"]
    assert found[0].evidence.startswith("missing in 20 % with and 0 % without the event (Fisher p = ")
    even = ["" if i < 60 else x for i, x in enumerate(_noise())]
    assert not _of("OSML018", _findings(tmp_path, _with(even), change))


def test_osml019(tmp_path: Path) -> None:
    def change(data: dict[str, Any]) -> None:
        data["cohort"]["site"] = "x"

    centres = ["north" if i % 3 == 0 or i % 6 == 1 else "south" for i in range(N)]
    found = _of("OSML019", _findings(tmp_path, _with(centres), change))
    assert [f.subject for f in found] == ["x"]
    assert found[0].evidence.startswith("share with the event by x: north: 67 %, south: 0 % (p = ")
    even = ["north" if i < 300 else "south" for i in range(N)]
    assert not _of("OSML019", _findings(tmp_path, _with(even), change))
    assert not _of("OSML019", _findings(tmp_path, _with(["north"] * N), change))


def test_osml040(tmp_path: Path) -> None:
    # Rows 1, 4, 7, … are non-events: the level "never" has no event.
    values = ["never" if i % 3 == 1 and i < 90 else ("a", "b")[i % 2] for i in range(N)]
    found = _of("OSML040", _findings(tmp_path, _with(values), _category(["a", "b", "never"])))
    assert [(f.subject, f.evidence) for f in found] == [
        ("clinical", "level 'never' of 'extra': 0 of 30 patients with the event")
    ]
    always = ["always" if i % 3 == 0 and i < 90 else ("a", "b")[i % 2] for i in range(N)]
    found = _of("OSML040", _findings(tmp_path, _with(always), _category(["a", "b", "always"])))
    assert [f.evidence for f in found] == ["level 'always' of 'extra': 30 of 30 patients with the event"]
    empty = [("a", "b")[i % 2] for i in range(N)]
    found = _of("OSML040", _findings(tmp_path, _with(empty), _category(["a", "b", "c"])))
    assert [f.evidence for f in found] == ["level 'c' of 'extra' has no patient"]
    for finite in ({"estimator": "firth", "shrink": "none"}, {"shrink": "ridge"}):
        assert not _of("OSML040", _findings(tmp_path, _with(values), _category(["a", "b", "never"], **finite)))


@pytest.mark.parametrize("n, fires", [(40, True), (N, False)])
def test_osml041(tmp_path: Path, n: int, fires: bool) -> None:
    found = _of("OSML041", _findings(tmp_path, _rows(n)))
    assert bool(found) is fires
    if fires:
        assert found[0].subject == "clinical"
        assert "40 patients and 14 events for 2 candidate parameters; Riley's criteria ask for" in found[0].evidence
        assert "; 7.0 events per parameter" in found[0].evidence


def test_osml042(tmp_path: Path) -> None:
    rows = _rows(18)

    def spline(data: dict[str, Any]) -> None:
        data["predictors"]["clinical"]["terms"] = {"age": {"rcs": 6}}

    found = _of("OSML042", _findings(tmp_path, rows, spline))
    assert [(f.subject, f.evidence) for f in found] == [("clinical", "6 candidate parameters, 6 events")]

    def fewer(data: dict[str, Any]) -> None:
        data["predictors"]["clinical"]["terms"] = {"age": {"rcs": 5}}

    assert not _of("OSML042", _findings(tmp_path, rows, fewer))


def test_osml043(tmp_path: Path) -> None:
    # age + extra separates the classes although neither does alone.
    rng = np.random.default_rng(4)
    event = np.arange(N) % 3 == 0
    age = rng.normal(50, 20, N).round(2)
    extra = (-age + np.where(event, 1, -1) * rng.uniform(1, 20, N)).round(2)
    rows = [[row[0], str(a), *row[2:]] for row, a in zip(_rows(), age, strict=True)]
    findings = _findings(tmp_path, _with([str(x) for x in extra], rows), _number())
    assert not _of("OSML013", findings)
    found = _of("OSML043", findings)
    assert [f.subject for f in found] == ["clinical"]
    assert "separation by " in found[0].evidence
    assert "extra" in found[0].evidence
    extra[0] = -extra[0] - 2 * age[0] - 40
    again = _findings(tmp_path, _with([str(x) for x in extra], rows), _number())
    assert not _of("OSML043", again)
