"""`osml predict`: a table in, exactly one row out for every row in; bad rows are named and do not stop the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from osml.files import write_csv
from osml.serving import Model, Row, load, read_patients

SHOWN = 5


def predict_table(source: Path, table_path: Path, out: Path, predictor: str | None, say: Callable[[str], None]) -> int:
    """Write predictions of a run's or bundle's model; returns the number of rows without one."""
    model = load(source, predictor)
    rows = model.predict(read_patients(table_path, model))
    write_rows(out, model, rows)
    bad = [row for row in rows if not row.ok]
    say(f"predicted {len(rows) - len(bad)} of {len(rows)} rows with {model.name!r} → {out}")
    for row in bad[:SHOWN]:
        say(f"  {table_path.name}:{row.line}: {row.status}")
    if len(bad) > SHOWN:
        say(f"  … and {len(bad) - SHOWN} more; see the status column")
    if model.withheld:
        say(f"  {model.withheld}")
    if model.facts["synthetic"]:
        say(f"  SYNTHETIC: {model.facts['synthetic']}")
    return len(bad)


def write_rows(out: Path, model: Model, rows: list[Row]) -> None:
    """CSV with one line per input row, in its order; cells that a spreadsheet would run are neutralised."""
    id_column = model.schema.cohort.row or model.schema.cohort.patient
    header = ["line", id_column, "status", "predictor"]
    for column in model.columns:
        header += [f"risk: {column}", f"low: {column}", f"high: {column}"]
    header += ["linear_predictor", "interval", "imputed", "outside_range", "model_sha256"]
    digest = model.bundle.model_hash
    lines = []
    for row in rows:
        line: list[Any] = [row.line, row.unit, row.status, model.name]
        for k in range(len(model.columns)):
            line += [
                row.p[k] if row.p else None,
                None if row.low is None else row.low[k],
                None if row.high is None else row.high[k],
            ]
        lines.append([*line, row.lp, row.interval, "; ".join(row.imputed), "; ".join(row.extrapolated), digest])
    write_csv(out, header, lines)
