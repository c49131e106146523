"""A loaded predictor: what it asks, what it says of a table's rows, why, and the sheet that shows it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cells import CellProblem
from osml.cohort.cohort import Cohort
from osml.cohort.inputs import ParsedInputs, parse_inputs
from osml.cohort.table import Table
from osml.errors import RunError, TableError
from osml.nomogram import Nomogram, calculator, draw
from osml.predictors.chain import Chain
from osml.predictors.contract import Prediction
from osml.predictors.learn import complete
from osml.predictors.nomogram import FittedNomogram
from osml.runs.bundle import Bundle
from osml.schema.model import Schema
from osml.serving.explain import Answer, Curve, Explanation, Gap, answers, curves, explain_unit, fill_gaps
from osml.serving.form import Field, FormTable, fields, form_schema, form_table, needed_inputs, reading_schema

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """What became of one input row: `status` is "ok" or why there is no prediction."""

    line: int
    unit: str
    status: str
    p: tuple[float, ...] = ()
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None
    interval: str = ""
    lp: float | None = None
    imputed: tuple[str, ...] = ()
    extrapolated: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return self.status == "ok"


@dataclass(frozen=True)
class Model:
    """A loaded predictor of a verified bundle. Immutable; it keeps nothing of the patients it sees.

    means : column means of the design over the training patients, the reference of SHAP values
    """

    bundle: Bundle
    schema: Schema
    name: str
    chain: Chain
    facts: Mapping[str, Any]
    nomogram: Nomogram | None
    means: Float

    @property
    def fitted(self) -> FittedNomogram:
        fitted = self.chain.fitted
        assert isinstance(fitted, FittedNomogram)
        return fitted

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the probabilities: the event, or one horizon each."""
        fitted = self.fitted
        return tuple(f"{h:g} {fitted.time_unit}" for h in fitted.horizons) or (fitted.event,)

    @property
    def withheld(self) -> str:
        """Why probabilities are not shown; empty when they are."""
        return str(self.facts["withheld"])

    @property
    def scale(self) -> str:
        """What contributions are measured in."""
        return "log hazard" if self.fitted.horizons else "log odds"

    def form(self) -> tuple[Field, ...]:
        """The inputs that a prediction needs, in axis order, those of upstream predictors included."""
        return fields(self.schema, self.chain)

    def one_row(self, cells: Mapping[str, str], units: Mapping[str, str] | None = None) -> FormTable:
        """A table of one row for `predict`, `explain`, `gaps` and `sheet`.

        Parameters
        ----------
        cells : input → number or level as text; "" is missing; columns of a kit range by their name
        units : input → unit of the cell, default the model's own unit (not that of the study's table)
        """
        return form_table(self.form(), cells, units or {})

    def predict_one(self, cells: Mapping[str, str], units: Mapping[str, str] | None = None) -> Row:
        """One patient from form cells."""
        return self.predict(self.one_row(cells, units))[0]

    def predict(self, table: Table) -> list[Row]:
        """Exactly one result per row of a table that is read as text; bad rows say why and do not stop the others."""
        parsed, status = self._read(table)
        usable = [i for i, text in enumerate(status) if text == "ok"]
        prediction = self.chain.predict(_cohort(parsed, usable, self.schema)) if usable else None
        return _rows(table, status, usable, prediction, self.schema, bool(self.withheld))

    def explain(self, table: Table, row: int = 0) -> Explanation:
        """Exact SHAP values of one row of a table (additive model, background = training means)."""
        return explain_unit(self.fitted, self.chain.design(self._unit(table, row)), self.means)

    def answers(self, table: Table, row: int = 0) -> tuple[Answer, ...]:
        """Each input of one row as it was read, in the model's units."""
        return answers(self._unit(table, row), self.form())

    def gaps(self, table: Table, row: int = 0) -> tuple[Gap, ...]:
        """For each input that was not given: what the model took for it, and between what the risk would lie."""
        return () if self.withheld else fill_gaps(self.chain, self._unit(table, row), self.form())

    def effects(self) -> tuple[Curve, ...]:
        """How each input moves the linear predictor over the range of the training patients."""
        return curves(self.fitted, self.means)

    def sheet(self, table: Table, row: int = 0, page: Literal["a4", "letter"] = "a4") -> bytes:
        """The nomogram as PDF with this patient's lines; no name, id or date is drawn."""
        return self._drawn(table, row, "pdf", page)

    def overlay(self, table: Table, row: int = 0) -> str:
        """The nomogram as SVG with this patient's lines."""
        return self._drawn(table, row, "svg", "a4").decode("utf-8")

    def worked(self, table: Table, row: int = 0) -> tuple[Nomogram, dict[str, float]]:
        """The nomogram and one row's values for drawing that patient's lines.

        What was not given is NaN, and the nomogram says what it is taken as: "not known (as …)", never as if measured.
        """
        if self.nomogram is None:
            raise self._no_nomogram()
        fitted = self.fitted
        given = fitted.recipe.values(self.chain.design(self._unit(table, row)))
        filled, imputed = complete(fitted.imputer, given)
        predictors = tuple(
            replace(p, unknown=float(f"{filled[p.name][0]:.6g}")) if imputed[p.name][0] else p for p in self.nomogram.predictors
        )
        return replace(self.nomogram, predictors=predictors), {n: float(given[n][0]) for n in fitted.model.inputs}

    def patient_values(self, table: Table, row: int = 0) -> dict[str, float]:
        """One row's values as the nomogram reads them, gaps imputed; `worked` keeps them apart."""
        fitted = self.fitted
        filled, _ = complete(fitted.imputer, fitted.recipe.values(self.chain.design(self._unit(table, row))))
        return {name: float(filled[name][0]) for name in fitted.model.inputs}

    def drawing(self, ending: Literal["pdf", "svg", "html"]) -> bytes:
        """The nomogram without a patient: sheet, picture, or a page that computes (made here if the bundle has none)."""
        if self.nomogram is None:
            raise self._no_nomogram()
        name = f"predictors/{self.name}/nomogram.{ending}"
        if ending == "html" and name not in self.bundle.manifest["files"]:
            return calculator(self.nomogram).encode("utf-8")
        return self.bundle.content(name)

    def _no_nomogram(self) -> RunError:
        return RunError(f"predictor {self.name!r} has no nomogram", do=self.withheld or "See the report for the reason.")

    def _drawn(self, table: Table, row: int, ending: str, page: Literal["a4", "letter"]) -> bytes:
        nomogram, patient = self.worked(table, row)
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / f"sheet.{ending}"
            draw(nomogram, target, page=page, patient=patient)
            return target.read_bytes()

    def _read(self, table: Table) -> tuple[ParsedInputs, list[str]]:
        wanted = needed_inputs(self.schema, self.name)
        schema = reading_schema(self.schema, self.name)
        parsed = parse_inputs(
            form_schema(schema) if isinstance(table, FormTable) else schema, table, _where, wanted
        )
        status = _status(parsed, len(table.rows), wanted, self.schema.missing == "impute")
        readable = [i for i, text in enumerate(status) if text == "ok"]
        if readable:
            for k, why in self.chain.unusable(_cohort(parsed, readable, self.schema)).items():
                status[readable[k]] = why
        return parsed, status

    def _unit(self, table: Table, row: int) -> Cohort:
        one = replace(table, rows=(table.rows[row],), lines=(table.lines[row],))
        parsed, status = self._read(one)
        if status[0] != "ok":
            raise TableError(f"row {row + 1} cannot be used: {status[0]}")
        return _cohort(parsed, [0], self.schema)


def _where(*path: Any) -> str:
    return "bundle: " + ".".join(map(str, path))


def _status(parsed: ParsedInputs, n: int, wanted: Sequence[str], impute: bool) -> list[str]:
    problems: dict[int, list[CellProblem]] = {}
    for problem in parsed.problems:
        problems.setdefault(problem.row, []).append(problem)
    gaps = np.column_stack([np.isnan(parsed.values[name]) for name in wanted])
    out = []
    for i in range(n):
        if i in problems:
            out.append("; ".join(f"{p.input}: {p.message}" for p in problems[i]))
        elif gaps[i].all():
            out.append("every input is missing")
        elif gaps[i].any() and not impute:
            absent = ", ".join(name for name, gone in zip(wanted, gaps[i], strict=True) if gone)
            out.append(f"missing {absent}, and the model does not impute")
        else:
            out.append("ok")
    return out


def _cohort(parsed: ParsedInputs, rows: Sequence[int], schema: Schema) -> Cohort:
    index: NDArray[np.intp] = np.array(rows, dtype=np.intp)
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


def _rows(
    table: Table,
    status: Sequence[str],
    usable: Sequence[int],
    prediction: Prediction | None,
    schema: Schema,
    hidden: bool,
) -> list[Row]:
    column = schema.cohort.row or schema.cohort.patient
    ids = table.column(column) if column in table.columns and not isinstance(table, FormTable) else None
    place = {row: k for k, row in enumerate(usable)}
    flags: dict[str, dict[str, list[str]]] = {}
    for flag in prediction.flags if prediction is not None else ():
        flags.setdefault(flag.unit, {}).setdefault(flag.code, []).append(flag.input)
    out = []
    for i, text in enumerate(status):
        k = place.get(i)
        name = "" if ids is None else ids[i]
        if k is None or prediction is None:
            out.append(Row(table.lines[i], name, text))
            continue
        mine = flags.get(str(i), {})
        bounds = prediction.low is not None and prediction.high is not None and not hidden
        out.append(
            Row(
                line=table.lines[i],
                unit=name,
                status=text,
                p=() if hidden else tuple(float(p) for p in prediction.p[k]),
                low=tuple(float(x) for x in prediction.low[k]) if bounds and prediction.low is not None else None,
                high=tuple(float(x) for x in prediction.high[k]) if bounds and prediction.high is not None else None,
                interval=prediction.interval,
                lp=float(prediction.lp[k]),
                imputed=tuple(mine.get("imputed", ())),
                extrapolated=tuple(mine.get("extrapolated", ())),
            )
        )
    return out
