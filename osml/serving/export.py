"""Predictions as files that leave the program: a CSV of many rows, a JSON of one patient."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from osml.cohort.table import Table
from osml.files import csv_text, spreadsheet_safe
from osml.nomogram.metadata import NOTICE
from osml.predictors.network import FittedNetwork
from osml.serving.model import Model
from osml.serving.rows import Row
from osml.serving.table_pictures import measured_of
from osml.serving.words import cautions, statement


def rows_table(model: Model, rows: list[Row]) -> tuple[list[str], list[list[Any]]]:
    """Header and one line per input row, in its order."""
    per_row = model.schema.cohort.row
    header = ["line", per_row or model.schema.cohort.patient]
    header += [model.schema.cohort.patient] if per_row and model.classes else []
    header += ["status", "predictor"]
    for column in model.columns:
        header += [f"p: {column}"] if model.classes else [f"risk: {column}", f"low: {column}", f"high: {column}"]
    sets = _sets(model)
    header += ["predicted"] if model.classes else ["linear_predictor", "interval", "imputed"]
    header += ["prediction_set", "undecided"] if sets else []
    header += ["missing_inputs"] if model.does_without else []
    gates = _gates(model)
    header += ["outside_range", *(f"gate: {name}" for name in gates), "model_sha256"]
    lines = []
    for row in rows:
        line: list[Any] = [row.line, row.unit]
        line += [row.patient] if per_row and model.classes else []
        line += [row.status, model.name]
        for k in range(len(model.columns)):
            line += [row.p[k] if row.p else None]
            if not model.classes:
                line += [None if row.low is None else row.low[k], None if row.high is None else row.high[k]]
        line += [row.predicted] if model.classes else [row.lp, row.interval, "; ".join(row.imputed)]
        if sets:
            line += ["; ".join(row.inside or ()), ("yes" if row.undecided else "no") if row.inside is not None else ""]
        line += ["; ".join(row.missing)] if model.does_without else []
        weights = [row.gates.get(name) for name in gates]
        lines.append([*line, "; ".join(row.extrapolated), *weights, model.bundle.model_hash])
    return header, lines


def patients_table(model: Model, rows: list[Row]) -> tuple[list[str], list[list[Any]]] | None:
    """Header and one line per patient: means over the patient's rows that have a prediction.

    None where predictions are of patients anyway, where probabilities are withheld, or where no row names its patient.
    """
    if model.schema.cohort.row is None or model.withheld or not any(row.patient for row in rows):
        return None
    header = [model.schema.cohort.patient, "rows", "rows_used"]
    header += [f"mean p: {column}" for column in model.columns]
    header += [f"share predicted: {name}" for name in model.classes]
    lines = []
    for patient in dict.fromkeys(row.patient for row in rows if row.patient):
        mine = [row for row in rows if row.patient == patient]
        used = [row for row in mine if row.ok]
        line: list[Any] = [patient, len(mine), len(used)]
        for k in range(len(model.columns)):
            line.append(sum(row.p[k] for row in used) / len(used) if used else None)
        line += [sum(row.predicted == name for row in used) / len(used) if used else None for name in model.classes]
        lines.append(line)
    return header, lines


def patients_csv(model: Model, rows: list[Row]) -> str | None:
    """`patients_table` as CSV text."""
    table = patients_table(model, rows)
    return None if table is None else csv_text([spreadsheet_safe(cell) for cell in table[0]], table[1])


def _sets(model: Model) -> bool:
    return isinstance(model.fitted, FittedNetwork) and model.fitted.sets is not None and not model.withheld


def _gates(model: Model) -> tuple[str, ...]:
    fitted = model.fitted
    gated = isinstance(fitted, FittedNetwork) and fitted.recipe.fusion == "gated" and len(fitted.recipe.names) > 1
    return fitted.recipe.names if gated and isinstance(fitted, FittedNetwork) else ()


def rows_csv(model: Model, rows: list[Row]) -> str:
    """CSV text; cells that a spreadsheet would run are neutralised, those of the header too."""
    header, lines = rows_table(model, rows)
    return csv_text([spreadsheet_safe(cell) for cell in header], lines)


def record(model: Model, table: Table, row: int = 0) -> dict[str, Any]:
    """One patient's prediction with all that must be read beside it, for JSON; holds the inputs but no id."""
    result = model.predict_at(table, row)
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
        "predicted": result.predicted,
        "prediction_set": None if result.inside is None else list(result.inside),
        "undecided": result.undecided,
        "missing": list(result.missing),
        "gate_weights": dict(result.gates),
        "interval": result.interval,
        "linear_predictor": result.lp,
        "outside_range": list(result.extrapolated),
    }
    if result.ok:
        explanation = model.explain(table, row)
        out["inputs"] = [asdict(answer) for answer in model.answers(table, row)]
        out["explanation"] = asdict(explanation)
        out["scores"] = {label: asdict(one) for label, one in model.explain_scores(table, row)}
        measured = measured_of(table, row)
        if measured is not None:
            out["regions"] = dict(measured.regions)
        out["not_given"] = [asdict(gap) for gap in model.gaps(table, row)]
    return out
