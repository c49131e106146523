"""A loaded predictor: what it asks, what it says of a table's rows, why, and the sheet that shows it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import Cohort
from osml.cohort.table import Table
from osml.errors import RunError, TableError
from osml.nomogram import Nomogram, calculator, draw
from osml.predictors.chain import Chain
from osml.predictors.contract import NO_INTERVAL, Prediction
from osml.predictors.learn import complete
from osml.predictors.nomogram import FittedNomogram
from osml.predictors.radscore import FittedRadscore
from osml.runs.bundle import Bundle
from osml.schema.model import Schema
from osml.serving.explain import Answer, Curve, Explanation, Gap, answers, curves, explain_unit, fill_gaps
from osml.serving.form import Field, FormTable, ImageField, fields, form_table, image_fields
from osml.serving.measured import measure_files
from osml.serving.reading import OK, read_rows
from osml.serving.scores import explain_score, feature_label, score_curves, score_scale, scores_of

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
    def fitted(self) -> FittedNomogram | FittedRadscore:
        fitted = self.chain.fitted
        assert isinstance(fitted, FittedNomogram | FittedRadscore)
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
        if isinstance(self.fitted, FittedRadscore):
            return score_scale(self.fitted)
        return "log hazard" if self.fitted.horizons else "log odds"

    @property
    def scores(self) -> tuple[str, ...]:
        """Names of the Rad-scores among this predictor and those that feed it."""
        own = (self.name,) if isinstance(self.fitted, FittedRadscore) else ()
        return (*own, *(score.recipe.name for score in scores_of(self.chain)))

    def form(self) -> tuple[Field, ...]:
        """The cells that a prediction needs, in axis order, those of upstream predictors included."""
        return fields(self.schema, self.chain)

    def label(self, name: str) -> str:
        """What an input, a score or a feature is called beside a result."""
        labels = {field.name: field.label for field in self.form()}
        if isinstance(self.fitted, FittedNomogram):
            labels |= {item.name: item.label for item in self.fitted.recipe.inputs}
        return labels.get(name) or (feature_label(self.schema, name) if name.count("|") == 2 else name)

    def images(self) -> tuple[ImageField, ...]:
        """The files that a prediction needs: images with their masks; empty for a model without images."""
        return image_fields(self.schema, self.name)

    def one_row(
        self,
        cells: Mapping[str, str],
        units: Mapping[str, str] | None = None,
        images: Mapping[str, bytes | Path] | None = None,
    ) -> FormTable:
        """A table of one row for `predict`, `explain`, `gaps` and `sheet`.

        Parameters
        ----------
        cells : input → number or level as text; "" is missing; columns of a kit range by their name; `cohort.site`
        units : input → unit of the cell, default the model's own unit (not that of the study's table)
        images : key of `images()` → content, or path of a file. Measured here and now by the bundle's own recipe, in a
            process of its own and a temporary folder; of an image only its features and a picture of it stay, in the
            table that is returned. A file that cannot be used is the row's status.
        """
        table = form_table(self.form(), cells, units or {})
        if images is None:
            return table
        return replace(table, measured=measure_files(self.schema, self.chain, images))

    def predict_one(self, cells: Mapping[str, str], units: Mapping[str, str] | None = None) -> Row:
        """One patient from form cells."""
        return self.predict(self.one_row(cells, units))[0]

    def predict_images(
        self, cells: Mapping[str, str], images: Mapping[str, bytes | Path], units: Mapping[str, str] | None = None
    ) -> Row:
        """One patient from form cells and files; see `one_row`."""
        return self.predict(self.one_row(cells, units, images))[0]

    def predict(self, table: Table, *, root: Path | None = None) -> list[Row]:
        """Exactly one result per row of a table that is read as text; bad rows say why and do not stop the others.

        Parameters
        ----------
        root : folder from which relative paths of images start. Without it no path is followed, so that a server's
            disk is never read because a table names a file on it: rows that need images are then refused.
        """
        reading = read_rows(self.schema, self.chain, table, root)
        usable = [i for i, text in enumerate(reading.status) if text == OK]
        prediction = self.chain.predict(reading.cohort(usable)) if usable else None
        return _rows(table, reading.status, usable, prediction, self.schema, bool(self.withheld))

    def explain(self, table: Table, row: int = 0, *, root: Path | None = None) -> Explanation:
        """Exact SHAP values of one row of a table (additive model, background = training means).

        Of a Rad-score: contributions of its features, see `osml.serving.scores.explain_score`.
        """
        unit, fitted = self._unit(table, row, root), self.fitted
        if isinstance(fitted, FittedRadscore):
            return explain_score(self.schema, fitted, unit)
        return explain_unit(fitted, self.chain.design(unit), self.means)

    def explain_scores(
        self, table: Table, row: int = 0, *, root: Path | None = None
    ) -> tuple[tuple[str, Explanation], ...]:
        """(label, contributions of the features) of every Rad-score that feeds this model, for one row."""
        scores = scores_of(self.chain)
        unit = self._unit(table, row, root) if scores else None
        return tuple((s.recipe.label, explain_score(self.schema, s, unit)) for s in scores if unit is not None)

    def answers(self, table: Table, row: int = 0, *, root: Path | None = None) -> tuple[Answer, ...]:
        """Each input of one row as it was read, in the model's units."""
        return answers(self._unit(table, row, root), self.form())

    def gaps(self, table: Table, row: int = 0, *, root: Path | None = None) -> tuple[Gap, ...]:
        """For each input that was not given: what the model took for it, and between what the risk would lie."""
        return () if self.withheld else fill_gaps(self.chain, self._unit(table, row, root), self.form())

    def effects(self) -> tuple[Curve, ...]:
        """How each input moves the linear predictor over the range of the training patients.

        Of a Rad-score: each feature, 2 SD to either side of the training mean.
        """
        fitted = self.fitted
        if isinstance(fitted, FittedRadscore):
            return score_curves(self.schema, fitted)
        return curves(fitted, self.means)

    def score_effects(self) -> tuple[tuple[str, tuple[Curve, ...]], ...]:
        """(label, effects of the features) of every Rad-score that feeds this model."""
        return tuple((score.recipe.label, score_curves(self.schema, score)) for score in scores_of(self.chain))

    def sheet(
        self, table: Table, row: int = 0, page: Literal["a4", "letter"] = "a4", *, root: Path | None = None
    ) -> bytes:
        """The nomogram as PDF with this patient's lines; no name, id or date is drawn."""
        return self._drawn(table, row, "pdf", page, root)

    def overlay(self, table: Table, row: int = 0, *, root: Path | None = None) -> str:
        """The nomogram as SVG with this patient's lines."""
        return self._drawn(table, row, "svg", "a4", root).decode("utf-8")

    def worked(self, table: Table, row: int = 0, *, root: Path | None = None) -> tuple[Nomogram, dict[str, float]]:
        """The nomogram and one row's values for drawing that patient's lines.

        What was not given is NaN, and the nomogram says what it is taken as: "not known (as …)", never as if measured.
        """
        fitted = self.fitted
        if self.nomogram is None or isinstance(fitted, FittedRadscore):
            raise self.no_nomogram()
        given = fitted.recipe.values(self.chain.design(self._unit(table, row, root)))
        filled, imputed = complete(fitted.imputer, given)
        predictors = tuple(
            replace(p, unknown=float(f"{filled[p.name][0]:.6g}")) if imputed[p.name][0] else p
            for p in self.nomogram.predictors
        )
        return replace(self.nomogram, predictors=predictors), {n: float(given[n][0]) for n in fitted.model.inputs}

    def drawing(self, ending: Literal["pdf", "svg", "html"]) -> bytes:
        """The nomogram without a patient: sheet, picture, or a page that computes."""
        if self.nomogram is None:
            raise self.no_nomogram()
        name = f"predictors/{self.name}/nomogram.{ending}"
        if ending == "html" and name not in self.bundle.manifest["files"]:
            return calculator(self.nomogram).encode("utf-8")
        return self.bundle.content(name)

    def no_nomogram(self) -> RunError:
        """Why there is none."""
        if isinstance(self.fitted, FittedRadscore):
            return RunError(
                f"predictor {self.name!r} has no nomogram",
                why="A Rad-score is one number computed from many features: it is one axis, not a sheet of its own.",
                do="Choose a nomogram that it feeds.",
            )
        return RunError(
            f"predictor {self.name!r} has no nomogram", do=self.withheld or "See the report for the reason."
        )

    def _drawn(self, table: Table, row: int, ending: str, page: Literal["a4", "letter"], root: Path | None) -> bytes:
        nomogram, patient = self.worked(table, row, root=root)
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / f"sheet.{ending}"
            draw(nomogram, target, page=page, patient=patient)
            return target.read_bytes()

    def _unit(self, table: Table, row: int, root: Path | None) -> Cohort:
        one = replace(table, rows=(table.rows[row],), lines=(table.lines[row],))
        reading = read_rows(self.schema, self.chain, one, root)
        if reading.status[0] != OK:
            raise TableError(f"row {row + 1} cannot be used: {reading.status[0]}")
        return reading.cohort([0])


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
                interval=NO_INTERVAL if hidden else prediction.interval,
                lp=float(prediction.lp[k]),
                imputed=tuple(mine.get("imputed", ())),
                extrapolated=tuple(mine.get("extrapolated", ())),
            )
        )
    return out
