"""`osml predict`: a table in, one row out for every row in; bad rows are named and do not stop the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from osml.cohort.cells import CellProblem
from osml.cohort.cohort import Cohort
from osml.cohort.inputs import ParsedInputs, parse_inputs
from osml.cohort.table import Table, read_table
from osml.errors import RunError
from osml.files import read_json, write_csv
from osml.predictors.chain import load_chain, upstream_of
from osml.predictors.contract import Flag, Prediction
from osml.runs.directory import RunDirectory
from osml.schema.model import Schema
from osml.schema.suggest import hint
from osml.study.tasks import withheld

Say = Callable[[str], None]


def predict_table(run_path: Path, table_path: Path, out: Path, predictor: str | None, say: Say) -> int:
    """Write predictions; returns the number of rows that could not be predicted."""
    run = RunDirectory.open(run_path)
    schema = Schema.model_validate(read_json(run.path / "schema.resolved.json"))
    name = predictor or next(iter(schema.predictors))
    if name not in schema.predictors:
        raise RunError(f"the run has no predictor {name!r}", do=hint(name, schema.predictors))
    folder = run.path / "final" / name
    if not folder.is_dir():
        raise RunError(f"predictor {name!r} failed in this run; there is no model", do=f"See {run.path / 'failures.csv'}.")
    chain = load_chain(schema, name, folder)
    block = schema.cohort
    table = read_table(table_path, delimiter=block.delimiter, sheet=block.sheet)
    wanted = needed_inputs(schema, name)
    parsed = parse_inputs(schema, table, lambda *path: f"{run.path.name}: " + ".".join(map(str, path)), wanted)
    status, usable = _usable(parsed, table, schema, wanted)
    prediction = chain.predict(_cohort(parsed, table, schema, usable)) if usable else None
    _write(out, table, schema, status, usable, prediction, name)
    bad = len(table.rows) - len(usable)
    say(f"predicted {len(usable)} of {len(table.rows)} rows with {name!r} → {out}")
    for i in [i for i in range(len(table.rows)) if i not in set(usable)][:5]:
        say(f"  {table.where(i)}: {status[i]}")
    if bad > 5:
        say(f"  … and {bad - 5} more; see the status column")
    reason = withheld(schema)
    if reason:
        say(f"  {reason}")
    return bad


def needed_inputs(schema: Schema, name: str) -> set[str]:
    """Inputs of a predictor and of those that feed it, with the inputs that kit bands look at."""
    names = {item for item in schema.predictors[name].inputs if item in schema.inputs}
    for source in upstream_of(schema, name):
        names |= needed_inputs(schema, source)
    for item in list(names):
        kit = getattr(schema.inputs[item], "kit", None)
        if kit is not None and kit.by is not None:
            names |= {other for other in (kit.by.sex, kit.by.age) if other}
    return names


def _usable(
    parsed: ParsedInputs, table: Table, schema: Schema, wanted: set[str]
) -> tuple[list[str], list[int]]:
    problems: dict[int, list[CellProblem]] = {}
    for problem in parsed.problems:
        problems.setdefault(problem.row, []).append(problem)
    status, usable = [], []
    for i in range(len(table.rows)):
        if i in problems:
            status.append("; ".join(f"{p.input}: {p.message}" for p in problems[i]))
            continue
        gaps = [n for n in wanted if np.isnan(parsed.values[n][i])]
        if gaps and schema.missing != "impute":
            status.append(f"missing {', '.join(sorted(gaps))}, and the model does not impute")
        elif gaps and len(gaps) == len(wanted):
            status.append("every input is missing")
        else:
            status.append("ok")
            usable.append(i)
    return status, usable


def _cohort(parsed: ParsedInputs, table: Table, schema: Schema, rows: list[int]) -> Cohort:
    index = np.array(rows, dtype=np.intp)
    units = tuple(str(i) for i in rows)
    return Cohort(
        units=units,
        patients=units,
        copies=np.zeros(len(rows), dtype=np.intp),
        values={name: column[index] for name, column in parsed.values.items()},
        kit={name: (low[index], high[index]) for name, (low, high) in parsed.kit.items()},
        keys={},
        outcome=None,
        per_row=schema.cohort.row is not None,
    )


def _write(
    out: Path,
    table: Table,
    schema: Schema,
    status: list[str],
    usable: list[int],
    prediction: Prediction | None,
    name: str,
) -> None:
    id_column = schema.cohort.row or schema.cohort.patient
    ids = table.column(id_column) if id_column in table.columns else [""] * len(table.rows)
    columns = prediction.columns if prediction is not None else ()
    header = ["line", id_column, "status", "predictor"]
    for column in columns:
        header += [f"risk: {column}", f"low: {column}", f"high: {column}"]
    header += ["linear_predictor", "interval", "imputed", "extrapolated"]
    place = {row: k for k, row in enumerate(usable)}
    hidden = bool(withheld(schema))
    flagged: dict[str, list[Flag]] = {}
    for flag in prediction.flags if prediction is not None else ():
        flagged.setdefault(flag.unit, []).append(flag)
    rows: list[list[Any]] = []
    for i in range(len(table.rows)):
        row: list[Any] = [table.lines[i], ids[i], status[i], name]
        k = place.get(i)
        if k is None or prediction is None:
            rows.append(row + [None] * (3 * len(columns) + 4))
            continue
        for c in range(len(columns)):
            low = None if prediction.low is None else prediction.low[k, c]
            high = None if prediction.high is None else prediction.high[k, c]
            row += [None] * 3 if hidden else [prediction.p[k, c], low, high]
        flags = flagged.get(str(i), [])
        row += [
            prediction.lp[k],
            prediction.interval,
            "; ".join(f.input for f in flags if f.code == "imputed"),
            "; ".join(f.input for f in flags if f.code == "extrapolated"),
        ]
        rows.append(row)
    write_csv(out, header, rows)
