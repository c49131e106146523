"""A loaded predictor: what it asks, what it says of a table's rows, why, and the sheet that shows it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import Cohort
from osml.cohort.table import Table
from osml.errors import RunError, TableError
from osml.nomogram import Nomogram, calculator, draw
from osml.predictors.chain import Chain
from osml.predictors.learn import complete
from osml.predictors.network import FittedNetwork
from osml.predictors.nomogram import FittedNomogram
from osml.predictors.radscore import FittedRadscore
from osml.predictors.stack import FittedStack
from osml.predictors.tabular import Tabular
from osml.runs.bundle import Bundle
from osml.schema.model import Schema
from osml.schema.targets import HierarchyTarget, MulticlassTarget, SurvivalTarget, tree_of
from osml.serving.encoders import EncoderShelf, networks_of, tabular_of
from osml.serving.explain import Answer, Curve, Explanation, Gap, answers, curves, explain_unit, fill_gaps
from osml.serving.form import Field, FormTable, ImageField, fields, form_table, image_fields, indispensable
from osml.serving.measured_files import Files, measure_files
from osml.serving.reading import OK, Reading, read_rows
from osml.serving.rows import Row, rows_of
from osml.serving.scores import explain_score, feature_label, score_curves, score_scale, scores_of
from osml.serving.shown import images_shown, inputs_shown

if TYPE_CHECKING:
    from osml.serving.network import HeatMap

Float = NDArray[np.float64]
Served = FittedNomogram | FittedRadscore | FittedNetwork | FittedStack | Tabular


@dataclass(frozen=True)
class Model:
    """A loaded predictor of a verified bundle. Immutable; it keeps nothing of the patients it sees.

    means : column means of the design over the training patients, the reference of SHAP values
    encoders : frozen encoders, built at their first use
    """

    bundle: Bundle
    schema: Schema
    name: str
    chain: Chain
    facts: Mapping[str, Any]
    nomogram: Nomogram | None
    means: Float
    encoders: EncoderShelf = field(default_factory=EncoderShelf)

    @property
    def fitted(self) -> Served:
        """The predictor itself."""
        fitted = self.chain.fitted
        assert isinstance(fitted, Served)
        return fitted

    @property
    def horizons(self) -> tuple[float, ...]:
        """Times at which risk is predicted; empty without survival, and of a Rad-score that knows none."""
        target = self.schema.target
        return tuple(target.horizons) if isinstance(target, SurvivalTarget) else ()

    @property
    def time_unit(self) -> str:
        """Unit of the horizons."""
        return self.schema.target.unit if isinstance(self.schema.target, SurvivalTarget) else ""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the probabilities: the event, one horizon each, or every class and inner node."""
        fitted = self.fitted
        if isinstance(fitted, FittedNetwork | FittedStack | Tabular):
            return fitted.columns
        return tuple(f"{h:g} {fitted.time_unit}" for h in fitted.horizons) or (fitted.event,)

    @property
    def classes(self) -> tuple[str, ...]:
        """The exclusive classes of a target that has them; empty for a target with an event."""
        target = self.schema.target
        return tree_of(target).leaves if isinstance(target, MulticlassTarget | HierarchyTarget) else ()

    @property
    def equal_shares(self) -> bool:
        """Whether probabilities of classes hold for equal shares of the classes: those of the sample say nothing."""
        networks = any(network.calibration.restated for network in networks_of(self.chain))
        return networks or any(fitted.restated for fitted in tabular_of(self.chain))

    @property
    def kind(self) -> str:
        """Of predictor: nomogram, radscore, network, stack, boosting or autogluon."""
        return self.schema.predictors[self.name].kind

    @property
    def networked(self) -> bool:
        """Whether a network is in it."""
        return bool(networks_of(self.chain))

    @property
    def does_without(self) -> bool:
        """Whether what is missing stays missing: in networks and tabular learners, which know no interval."""
        return bool(networks_of(self.chain) or tabular_of(self.chain))

    @property
    def withheld(self) -> str:
        """Why probabilities are not shown; empty when they are."""
        return str(self.facts["withheld"])

    @property
    def scale(self) -> str:
        """What contributions are measured in."""
        if isinstance(self.fitted, FittedRadscore):
            return score_scale(self.fitted)
        return "log P(class)" if self.classes else "log hazard" if self.horizons else "log odds"

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
        labels |= {name: block.label or name for name, block in self.schema.inputs.items() if name not in labels}
        if isinstance(self.fitted, FittedNomogram):
            labels |= {item.name: item.label for item in self.fitted.recipe.inputs}
        if name in self.schema.predictors:
            labels.setdefault(name, getattr(self.schema.predictors[name], "label", None) or name)
        return labels.get(name) or (feature_label(self.schema, name) if name.count("|") == 2 else name)

    def images(self) -> tuple[ImageField, ...]:
        """The files that a prediction needs: images with their masks; empty for a model without images."""
        needed = indispensable(self.chain)
        return tuple(
            replace(image, may_be_missing=image.may_be_missing and image.key.partition(".")[0] not in needed)
            for image in image_fields(self.schema, self.name)
        )

    def one_row(
        self,
        cells: Mapping[str, str],
        units: Mapping[str, str] | None = None,
        images: Files | None = None,
    ) -> FormTable:
        """A table of one row for `predict`, `explain`, `gaps` and `sheet`.

        Parameters
        ----------
        cells : input → number or level as text; "" is missing; columns of a kit range by their name; `cohort.site`
        units : input → unit of the cell, default the model's own unit (not that of the study's table)
        images : key of `images()` → content, or path of a file, or several of them where the input allows it. Read here
            and now by the bundle's own recipe, in a process of its own and a temporary folder; of an image only its
            features, its vectors and a small picture stay, in the table that is returned. A file that cannot be used is
            the row's status.
        """
        table = form_table(self.form(), cells, units or {})
        if images is None:
            return table
        return replace(table, measured=measure_files(self.schema, self.chain, images, self.encoders))

    def predict_one(self, cells: Mapping[str, str], units: Mapping[str, str] | None = None) -> Row:
        """One patient from form cells."""
        return self.predict(self.one_row(cells, units))[0]

    def predict_images(self, cells: Mapping[str, str], images: Files, units: Mapping[str, str] | None = None) -> Row:
        """One patient from form cells and files; see `one_row`."""
        return self.predict(self.one_row(cells, units, images))[0]

    def predict(self, table: Table, *, root: Path | None = None) -> list[Row]:
        """Exactly one result per row of a table that is read as text; bad rows say why and do not stop the others.

        Parameters
        ----------
        root : folder from which relative paths of images start. Without it no path is followed, so that a server's
            disk is never read because a table names a file on it: rows that need images are then refused.
        """
        reading = read_rows(self.schema, self.chain, table, root, self.encoders)
        prediction = self.chain.predict(reading.cohort(reading.usable)) if reading.usable else None
        cohort = self.schema.cohort
        columns = cohort.row or cohort.patient, cohort.patient
        return rows_of(table, reading, prediction, columns, self.classes, bool(self.withheld))

    def predict_at(self, table: Table, row: int = 0, *, root: Path | None = None) -> Row:
        """The result of one row; the other rows of its patient are read where they hold images of that patient."""
        rows = self.companions(table, row)
        one = replace(table, rows=tuple(table.rows[i] for i in rows), lines=tuple(table.lines[i] for i in rows))
        return self.predict(one, root=root)[rows.index(row)]

    def explain(
        self, table: Table, row: int = 0, *, root: Path | None = None, column: str | None = None
    ) -> Explanation:
        """Exact SHAP values of one row of a table (additive model, background = training means).

        Of a Rad-score: contributions of its features, see `osml.serving.scores.explain_score`. Of a network: of its
        inputs, images among them, and of a stack of its scores; see `osml.serving.network`.

        Parameters
        ----------
        column : of classes, the class or inner node that is explained; default the predicted class
        """
        reading, fitted = self._read(table, row, root), self.fitted
        unit = reading.cohort([0])
        if isinstance(fitted, FittedRadscore):
            return explain_score(self.schema, fitted, unit)
        if isinstance(fitted, FittedNomogram):
            return explain_unit(fitted, self.chain.design(unit), self.means)
        from osml.serving.network import explain_network, explain_stack

        asked = self._column(unit, column)
        if isinstance(fitted, FittedStack):
            labels = {n: getattr(self.schema.predictors[n], "label", None) or n for n in fitted.names}
            return explain_stack(fitted, self.chain.design(unit), asked, labels)
        if isinstance(fitted, Tabular):
            from osml.serving.tabular import explain_tabular, scores_shown

            design = self.chain.design(unit)
            given = inputs_shown(self, fitted.spec, unit) | scores_shown(fitted.spec, design)
            return explain_tabular(fitted, design, asked, {n: self.label(n) for n in fitted.spec.inputs}, given)
        names = [*self.schema.inputs]
        return explain_network(
            fitted, unit, asked, {name: self.label(name) for name in names}, inputs_shown(self, fitted, unit)
        )

    def grad_cam(
        self, table: Table, row: int = 0, *, root: Path | None = None, column: str | None = None
    ) -> tuple[HeatMap, ...]:
        """Where the pictures of one row raise the score of a network; empty for other models and without pictures.

        Parameters
        ----------
        column : of classes, the class or inner node; default the predicted class
        """
        fitted = self.fitted
        if not isinstance(fitted, FittedNetwork) or not fitted.images:
            return ()
        from osml.serving.heat import row_heat_maps

        reading = self._read(table, row, root)
        unit = reading.cohort([0])
        return row_heat_maps(self, reading, self._column(unit, column), root)

    def explain_scores(
        self, table: Table, row: int = 0, *, root: Path | None = None
    ) -> tuple[tuple[str, Explanation], ...]:
        """(label, contributions of the features) of every Rad-score that feeds this model, for one row."""
        scores = scores_of(self.chain)
        unit = self._unit(table, row, root) if scores else None
        return tuple((s.recipe.label, explain_score(self.schema, s, unit)) for s in scores if unit is not None)

    def answers(self, table: Table, row: int = 0, *, root: Path | None = None) -> tuple[Answer, ...]:
        """Each input of one row as it was read, in the model's units."""
        return self.answers_of(self._unit(table, row, root))

    def answers_of(self, unit: Cohort) -> tuple[Answer, ...]:
        """The same of a unit that is read already."""
        return answers(unit, self.form())

    def images_given(self, table: Table, row: int = 0, *, root: Path | None = None) -> tuple[tuple[str, str], ...]:
        """(label, how many were given in words) of each image that the model reads, for one row."""
        return images_shown(self, self._read(table, row, root).measured) if self.images() else ()

    def gaps(self, table: Table, row: int = 0, *, root: Path | None = None) -> tuple[Gap, ...]:
        """For each input that was not given: what the model took for it, and between what the risk would lie."""
        return () if self.withheld else fill_gaps(self.chain, self._unit(table, row, root), self.form())

    def effects(self) -> tuple[Curve, ...]:
        """How each input moves the linear predictor over the range of the training patients.

        Of a Rad-score: each feature, 2 SD to either side of the training mean. Of a network or a stack: none, since
        what one input does depends on the others.
        """
        fitted = self.fitted
        if isinstance(fitted, FittedRadscore):
            return score_curves(self.schema, fitted)
        return curves(fitted, self.means) if isinstance(fitted, FittedNomogram) else ()

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
        if self.nomogram is None or not isinstance(fitted, FittedNomogram):
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
        kinds = {"network": "a network", "stack": "a stack", "boosting": "trees", "autogluon": "its models"}
        if self.kind in kinds:
            return RunError(
                f"predictor {self.name!r} has no nomogram",
                why=f"A nomogram draws a regression, whose inputs add up; in {kinds[self.kind]} they do not.",
                do="Predict with it here or by `osml predict`; a nomogram of the same study has a sheet.",
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
        return self._read(table, row, root).cohort([0])

    def _read(self, table: Table, row: int, root: Path | None) -> Reading:
        """One row; with it the other rows of its patient, where they hold images of that patient."""
        rows = self.companions(table, row)
        one = replace(table, rows=tuple(table.rows[i] for i in rows), lines=tuple(table.lines[i] for i in rows))
        reading = read_rows(self.schema, self.chain, one, root, self.encoders)
        status = reading.status[rows.index(row)]
        if status != OK:
            raise TableError(f"row {row + 1} cannot be used: {status}")
        return reading

    def companions(self, table: Table, row: int) -> list[int]:
        """Rows that make one prediction with this one, itself among them: a patient's pictures may have a row each."""
        patient = self.schema.cohort.patient
        several = self.schema.cohort.row is None and any(image.several for image in self.images())
        if not several or isinstance(table, FormTable) or patient not in table.columns:
            return [row]
        ids = table.column(patient)
        missing = {*self.schema.cohort.missing, ""}
        return [row] if ids[row] in missing else [i for i, name in enumerate(ids) if name == ids[row]]

    def _column(self, unit: Cohort, column: str | None) -> str:
        """What is explained: as asked, else the predicted class, else the event."""
        if column is not None:
            if column not in self.columns:
                raise RunError(f"the model has no output {column!r}", do=f"Outputs: {', '.join(self.columns)}.")
            return column
        if not self.classes:
            return self.columns[0]
        p = dict(zip(self.columns, self.chain.predict(unit).p[0].tolist(), strict=True))
        return max(self.classes, key=lambda name: p[name])
