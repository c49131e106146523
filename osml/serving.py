"""The only door for the app and the command line: load a run or a bundle, ask what it needs, predict, explain, print.

Nothing is fitted and nothing is unpickled here. A bundle is verified file by file and its golden cases are replayed
before it serves.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cells import CellProblem
from osml.cohort.cohort import Cohort
from osml.cohort.inputs import ParsedInputs, parse_inputs
from osml.cohort.table import Table, read_table
from osml.errors import RunError, TableError, VerificationError
from osml.nomogram import Nomogram, draw, from_json
from osml.predictors.chain import Chain, load_chain, upstream_of
from osml.predictors.contract import Prediction
from osml.predictors.learn import complete
from osml.predictors.nomogram import FittedNomogram
from osml.runs.bundle import Bundle, open_bundle
from osml.schema.model import BinaryInput, CategoryInput, LabInput, Schema
from osml.schema.suggest import hint

GOLDEN_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Field:
    """One input of the form: how it is called, what it may be, and what training looked like.

    kind : number or category
    limits : hard range; values outside are refused
    training : range of the training axes; values outside are flagged as extrapolated
    units : other units in which it may be entered, with the factor to `unit`
    may_be_missing : whether the model was trained to do without it
    kit_low, kit_high : names of the columns that hold the assay's range, when rows carry it
    """

    name: str
    column: str
    label: str
    kind: str
    unit: str
    levels: tuple[str, ...]
    limits: tuple[float, float] | None
    training: tuple[float, float] | None
    may_be_missing: bool
    kit_low: str | None = None
    kit_high: str | None = None


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
class Contribution:
    """Share of one input in one patient's linear predictor, against the training mean (an exact SHAP value)."""

    input: str
    label: str
    shown: str
    value: float


@dataclass(frozen=True)
class Explanation:
    """Contributions on the log-odds (Cox: log-hazard) scale: base + their sum = the patient's linear predictor."""

    base: float
    contributions: tuple[Contribution, ...]
    lp: float
    scale: str


@dataclass(frozen=True)
class Model:
    """A loaded predictor of a verified bundle."""

    bundle: Bundle
    schema: Schema
    name: str
    chain: Chain
    facts: Mapping[str, Any]
    nomogram: Nomogram | None

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

    def form(self) -> tuple[Field, ...]:
        """The inputs that a prediction needs, in axis order, those of upstream predictors included."""
        return tuple(_field(self.schema, self.fitted, item) for item in needed_inputs(self.schema, self.name))

    def predict(self, table: Table) -> list[Row]:
        """Exactly one result per row of a table that is read as text; bad rows say why and do not stop the others."""
        wanted = needed_inputs(self.schema, self.name)
        parsed = parse_inputs(self.schema, table, _where, wanted)
        status = _status(parsed, len(table.rows), wanted, self.schema.missing == "impute")
        usable = [i for i, text in enumerate(status) if text == "ok"]
        prediction = self.chain.predict(_cohort(parsed, usable, self.schema)) if usable else None
        return _rows(table, status, usable, prediction, self.schema, bool(self.withheld))

    def predict_one(self, cells: Mapping[str, str]) -> Row:
        """One patient from form cells: input name → text as it would stand in a table; "" is missing."""
        return self.predict(self.one_row(cells))[0]

    def one_row(self, cells: Mapping[str, str]) -> Table:
        """A table of one row for `predict`, `explain` and `sheet`; unknown names are refused."""
        columns: dict[str, str] = {}
        fields = {f.name: f for f in self.form()}
        blank = self.schema.cohort.missing[0] if self.schema.cohort.missing else ""
        for name in cells:
            if name not in fields and not any(name in (f.kit_low, f.kit_high) for f in fields.values()):
                raise TableError(f"the model has no input {name!r}", do=hint(name, fields))
        for name, field in fields.items():
            columns[field.column] = cells.get(name, "") or blank
            for side in (field.kit_low, field.kit_high):
                if side is not None:
                    columns[side] = cells.get(side, "") or blank
        return Table("form", tuple(columns), (tuple(columns.values()),), (1,), "")

    def explain(self, table: Table, row: int = 0) -> Explanation:
        """Exact SHAP values of one row of a table (additive model, background = training means)."""
        cohort = self._cohort_of(table, row)
        fitted = self.fitted
        values, _ = complete(fitted.imputer, fitted.recipe.values(self.chain.design(cohort)))
        means = np.array(self.bundle.read(f"predictors/{self.name}/background.json")["means"])
        base, start, parts = fitted.model.intercept, 0, []
        for term in fitted.model.terms:
            stop = start + len(term.columns)
            coef, mean = fitted.model.coef[start:stop], means[start:stop]
            own = float((term.basis(values)[0] - mean) @ coef)
            base += float(mean @ coef)
            item = fitted.recipe.input(term.inputs[0])
            x = float(values[item.name][0])
            shown = item.levels[int(x)] if item.kind == "category" else f"{x:g} {item.shown_unit}".strip()
            parts.append(Contribution(item.name, item.label, shown, own))
            start = stop
        lp = base + sum(p.value for p in parts)
        return Explanation(base, tuple(parts), lp, "log hazard" if fitted.horizons else "log odds")

    def sheet(self, table: Table, row: int = 0, page: str = "a4") -> bytes:
        """The nomogram as PDF with this patient's lines; no name, id or date is drawn."""
        if self.nomogram is None:
            raise RunError(
                f"predictor {self.name!r} has no nomogram", do=self.withheld or "See the report for the reason."
            )
        fitted = self.fitted
        values, _ = complete(fitted.imputer, fitted.recipe.values(self.chain.design(self._cohort_of(table, row))))
        patient = {name: float(values[name][0]) for name in fitted.model.inputs}
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "sheet.pdf"
            draw(self.nomogram, target, page=page, patient=patient)  # type: ignore[arg-type]
            return target.read_bytes()

    def _cohort_of(self, table: Table, row: int) -> Cohort:
        wanted = needed_inputs(self.schema, self.name)
        parsed = parse_inputs(self.schema, table, _where, wanted)
        status = _status(parsed, len(table.rows), wanted, self.schema.missing == "impute")
        if status[row] != "ok":
            raise TableError(f"row {row + 1} cannot be used: {status[row]}")
        return _cohort(parsed, [row], self.schema)


def load(path: str | Path, predictor: str | None = None) -> Model:
    """Load a predictor from a run, a study's folder (its latest run) or a bundle.

    Parameters
    ----------
    predictor : default: the first of the schema that was fitted

    Raises
    ------
    RunError, VerificationError
        Not a bundle, a newer one, or one that was changed or does not reproduce its golden cases.
    """
    bundle = open_bundle(bundle_folder(Path(path)))
    schema = Schema.model_validate(bundle.read("schema.json"))
    files = bundle.manifest["files"]
    available = [n for n in schema.predictors if f"predictors/{n}/model.json" in files]
    if predictor is None:
        if not available:
            raise RunError("the bundle holds no predictor: all failed")
        predictor = available[0]
    if predictor not in available:
        raise RunError(f"the bundle has no predictor {predictor!r}", do=hint(predictor, available))
    chain = load_chain(schema, predictor, bundle.path / "predictors" / predictor)
    nomogram = None
    if f"predictors/{predictor}/nomogram.json" in files:
        nomogram = from_json(bundle.file(f"predictors/{predictor}/nomogram.json").read_text(encoding="utf-8"))
    model = Model(bundle, schema, predictor, chain, bundle.read("facts.json"), nomogram)
    if f"predictors/{predictor}/golden.json" in files:
        _replay(model, bundle.read(f"predictors/{predictor}/golden.json"))
    return model


def available_predictors(path: str | Path) -> tuple[str, ...]:
    """Predictors that a run or bundle can serve."""
    bundle = open_bundle(bundle_folder(Path(path)))
    schema = Schema.model_validate(bundle.read("schema.json"))
    return tuple(n for n in schema.predictors if f"predictors/{n}/model.json" in bundle.manifest["files"])


def bundle_folder(path: Path) -> Path:
    """The bundle inside a run or a study's folder, or the folder itself."""
    for candidate in (path, path / "bundle", path / "latest" / "bundle"):
        if (candidate / "manifest.json").is_file():
            return candidate
    if (path / "latest").is_file():
        return bundle_folder(path / (path / "latest").read_text(encoding="utf-8").strip())
    raise RunError(f"{path} is neither a bundle nor a finished run", do="Give the folder that `osml fit` printed.")


def needed_inputs(schema: Schema, name: str) -> list[str]:
    """Inputs of a predictor and of those that feed it, and the inputs that kit bands look at, in order."""
    names: list[str] = []
    for item in schema.predictors[name].inputs:
        names += [item] if item in schema.inputs else []
    for source in upstream_of(schema, name):
        names += needed_inputs(schema, source)
    for item in list(names):
        kit = getattr(schema.inputs[item], "kit", None)
        if kit is not None and kit.by is not None:
            names += [other for other in (kit.by.sex, kit.by.age) if other]
    return list(dict.fromkeys(names))


def read_patients(path: str | Path, model: Model) -> Table:
    """Read a table as the model's schema says it is written."""
    block = model.schema.cohort
    return read_table(path, delimiter=block.delimiter, sheet=block.sheet)


def _where(*path: Any) -> str:
    return "bundle: " + ".".join(map(str, path))


def _replay(model: Model, stored: Mapping[str, Any]) -> None:
    from osml.study.publish import made_up

    cases = {name: np.array(x, dtype=float) for name, x in stored["values"].items()}
    p = model.chain.predict(made_up(model.chain, cases)).p
    gap = float(np.max(np.abs(p - np.array(stored["p"]))))
    if not gap <= GOLDEN_TOLERANCE:
        raise VerificationError(
            f"the model does not reproduce its golden cases: probabilities differ by up to {gap:.3g}",
            do="Do not use this bundle; make it again from its run.",
        )


def _field(schema: Schema, fitted: FittedNomogram, name: str) -> Field:
    block = schema.inputs[name]
    category = isinstance(block, (BinaryInput, CategoryInput))
    kit = block.kit if isinstance(block, LabInput) else None
    low = kit.low if kit is not None and isinstance(kit.low, str) else None
    high = kit.high if kit is not None and isinstance(kit.high, str) else None
    encoded = any(i.name == name and i.encode != "value" for i in fitted.recipe.inputs)
    return Field(
        name=name,
        column=block.column or name,
        label=block.label or name,
        kind="category" if category else "number",
        unit=getattr(block, "unit", None) or "",
        levels=block.levels if isinstance(block, (BinaryInput, CategoryInput)) else (),
        limits=getattr(block, "limits", None),
        training=None if encoded else fitted.ranges.get(name),
        may_be_missing=schema.missing == "impute",
        kit_low=low,
        kit_high=high,
    )


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
    ids = table.column(column) if column in table.columns else [""] * len(table.rows)
    place = {row: k for k, row in enumerate(usable)}
    flags: dict[str, dict[str, list[str]]] = {}
    for flag in prediction.flags if prediction is not None else ():
        flags.setdefault(flag.unit, {}).setdefault(flag.code, []).append(flag.input)
    out = []
    for i, text in enumerate(status):
        k = place.get(i)
        if k is None or prediction is None:
            out.append(Row(table.lines[i], ids[i], text))
            continue
        mine = flags.get(str(i), {})
        bounds = prediction.low is not None and prediction.high is not None and not hidden
        out.append(
            Row(
                line=table.lines[i],
                unit=ids[i],
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
