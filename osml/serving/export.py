"""Predictions as files that leave the program: a CSV of many rows, a JSON of one patient."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from osml.cohort.table import Table
from osml.files import csv_text, spreadsheet_safe
from osml.nomogram.metadata import NOTICE
from osml.serving.form import FormTable
from osml.serving.model import Model, Row
from osml.serving.words import cautions, statement


def rows_table(model: Model, rows: list[Row]) -> tuple[list[str], list[list[Any]]]:
    """Header and one line per input row, in its order."""
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
    return header, lines


def rows_csv(model: Model, rows: list[Row]) -> str:
    """CSV text; cells that a spreadsheet would run are neutralised, those of the header too."""
    header, lines = rows_table(model, rows)
    return csv_text([spreadsheet_safe(cell) for cell in header], lines)


def record(model: Model, table: Table, row: int = 0) -> dict[str, Any]:
    """One patient's prediction with all that must be read beside it, for JSON; holds the inputs but no id."""
    result = model.predict(replace(table, rows=(table.rows[row],), lines=(table.lines[row],)))[0]
    out: dict[str, Any] = {
        "notice": NOTICE,
        "synthetic": model.facts["synthetic"],
        "about": {name: words for name, words in statement(model) if name != "Caution"},
        "cautions": cautions(model),
        "model": {
            "study": model.schema.name,
            "predictor": model.name,
            "osml": model.bundle.manifest["osml"],
            "manifest_sha256": model.bundle.model_hash,
        },
        "status": result.status,
        "withheld": model.withheld,
        "risk": [
            {
                "of": column,
                "p": result.p[k],
                "low": None if result.low is None else result.low[k],
                "high": None if result.high is None else result.high[k],
            }
            for k, column in enumerate(model.columns)
            if result.p
        ],
        "interval": result.interval,
        "linear_predictor": result.lp,
        "outside_range": list(result.extrapolated),
    }
    if result.ok:
        explanation = model.explain(table, row)
        out["inputs"] = [asdict(answer) for answer in model.answers(table, row)]
        out["explanation"] = asdict(explanation)
        out["scores"] = {label: asdict(one) for label, one in model.explain_scores(table, row)}
        if isinstance(table, FormTable) and table.measured is not None:
            out["regions"] = dict(table.measured.regions)
        out["not_given"] = [asdict(gap) for gap in model.gaps(table, row)]
    return out
