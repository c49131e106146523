"""The schema, version 1: one class a block, one description a key. `osml schema --json` prints it as JSON Schema."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import Field

from osml.schema.autogluon import AutogluonPredictor
from osml.schema.fields import Block, FilePath, Level, Number, Text, Whole
from osml.schema.images import ImageInput, RadiomicsInput, VolumeInput
from osml.schema.networks import NetworkPredictor, StackPredictor
from osml.schema.slides import RegionTarget, ScoreInput, SlideInput, SlidePredictor
from osml.schema.tabular import BoostingPredictor
from osml.schema.targets import BinaryTarget, ClassesTarget, SurvivalTarget

AUTO = "auto"
Sampling = Literal["cohort", "case_control", "enriched"]


class Prevalence(Block):
    """Share of the positive class where the model will be used, for studies that did not sample a cohort."""

    value: Annotated[Number, Field(gt=0, lt=1, description="share of positives in the target population")]
    source: Annotated[Text, Field(description="where the share comes from; printed beside every probability")]


class Study(Block):
    """What the study is; printed on every output."""

    title: Text | None = Field(None, description="title of the report")
    endpoint: Text | None = Field(None, description="the outcome in words, as a clinician would say it")
    population: Text | None = Field(None, description="who the patients are")
    centre: Text | None = Field(None, description="where they were treated")
    period: Text | None = Field(None, description="when they were treated")
    sampling: Sampling = Field(
        description="cohort: every eligible patient; case_control or enriched: probabilities are withheld until "
        "`prevalence` is given"
    )
    prevalence: Prevalence | None = Field(None, description="needed for probabilities unless sampling is cohort")
    synthetic: Text | None = Field(None, description="says that the data are simulated; printed in every output")


class Position(Block):
    """Where tiles lie on their slides."""

    slide: Text = Field(description="column of the slide; a slide belongs to one patient")
    x: Text = Field(description="column of the left edge, in pixels of the slide")
    y: Text = Field(description="column of the upper edge")
    size: Annotated[Number, Field(gt=0, description="side of a tile, in the same pixels")]


class CohortBlock(Block):
    """The table and how its rows become patients."""

    table: FilePath = Field(description="CSV, TSV, Parquet or XLSX")
    patient: Text = Field(description="column that names the patient; read as text, leading zeros kept")
    row: Text | None = Field(None, description="column that names the row when prediction is per row, not per patient")
    missing: tuple[Level, ...] = Field(("",), description="cells that mean missing; every other text is a value")
    delimiter: Annotated[Text, Field(max_length=1)] | None = Field(
        None, description="default: comma for .csv, tab for .tsv"
    )
    sheet: Text | None = Field(None, description="sheet of an XLSX file; default: the only one")
    site: Text | None = Field(None, description="column that names the centre; checked for confounding, never an input")
    position: Position | None = Field(None, description="where tiles lie, for the check of overlapping ones")


Target = Annotated[BinaryTarget | SurvivalTarget | ClassesTarget | RegionTarget, Field(discriminator="kind")]


class Decision(Block):
    """The decision that the prediction serves. Without it there is no decision curve."""

    action: Text = Field(description="what would be done")
    act_on: Level = Field(description="class on whose risk one acts: the positive class, or `event` for survival")
    thresholds: Annotated[tuple[Number, Number], Field(description="range of risks at which reviewers would differ")]
    why: Text = Field(description="why that range; printed under the curve")


class Censored(Block):
    """What to do with cells such as '<5' or '>2000'. Without this block they are refused."""

    below: Literal["half", "limit"] | None = Field(None, description="'<5' becomes 2.5 (half) or 5 (limit)")
    above: Literal["limit"] | None = Field(None, description="'>2000' becomes 2000")


class Band(Block):
    """A kit range for one sex and age group."""

    sex: Level | None = Field(None, description="level of the input named by `by.sex`")
    age: tuple[Number, Number] | None = Field(None, description="from (inclusive) to (exclusive), in years")
    low: Number = Field(description="lower limit, in the lab's unit")
    high: Number = Field(description="upper limit, in the lab's unit")


class BandsBy(Block):
    """Which inputs the bands look at."""

    sex: Text | None = Field(None, description="name of a binary or category input")
    age: Text | None = Field(None, description="name of a number input, in years")


class Kit(Block):
    """Reference range of the assay: two numbers, two columns, or age and sex bands."""

    low: Number | Text | None = Field(None, description="a number in the lab's unit, or the name of a column")
    high: Number | Text | None = Field(None, description="a number in the lab's unit, or the name of a column")
    by: BandsBy | None = Field(None, description="inputs that say which band a patient belongs to")
    bands: tuple[Band, ...] | None = Field(None, description="ranges by sex and age; a patient in none has no range")


class ColumnUnit(Block):
    """The unit stands in a column, row by row."""

    column: Text = Field(description="column of the unit; rows are converted one by one")


class _Input(Block):
    column: Text | None = Field(None, description="column of the table; default: the input's name")
    label: Text | None = Field(None, description="name on axes and in tables; default: the input's name")
    available: Text = Field(description="one of `times`: when the value is known")


class _Numeric(_Input):
    limits: tuple[Number, Number] | None = Field(None, description="values outside are impossible and refused")
    censored: Censored | None = Field(None, description="what cells such as '<5' count as; default: they are refused")
    table_unit: Text | ColumnUnit | None = Field(None, description="unit in the table, if not `unit`: it is converted")


class NumberInput(_Numeric):
    """A measured number."""

    kind: Literal["number"]
    unit: Text | None = Field(None, description="unit of the values, printed on axes")


class LabInput(_Numeric):
    """A laboratory value with a unit and, where known, the assay's reference range."""

    kind: Literal["lab"]
    unit: Text = Field(description="unit in which the model and its nomogram speak")
    kit: Kit | None = Field(None, description="reference range of the assay, needed for `encode: kit` and `uln`")


class BinaryInput(_Input):
    """Two levels; the first is the reference."""

    kind: Literal["binary"]
    levels: Annotated[tuple[Level, Level], Field(description="reference first")]


class CategoryInput(_Input):
    """Several levels; the first is the reference. Cells may be grouped: `groups: {soft: [fat, muscle]}`."""

    kind: Literal["category"]
    levels: Annotated[tuple[Level, ...], Field(min_length=2, description="reference first")]
    groups: dict[str, tuple[Level, ...]] | None = Field(
        None, description="level: cells of the table that count as it; a level not listed stands for itself"
    )


ValueInput = NumberInput | LabInput | BinaryInput | CategoryInput
FileInput = VolumeInput | ImageInput
Input = Annotated[ValueInput | FileInput | RadiomicsInput | SlideInput | ScoreInput, Field(discriminator="kind")]


class Rcs(Block):
    """Restricted cubic spline."""

    rcs: Annotated[Whole, Field(ge=3, le=7, description="number of knots, at Harrell's quantiles")]


Transform = Literal["linear", "log"] | Rcs
Encoding = Literal["value", "kit", "uln"]


class NomogramPredictor(Block):
    """Logistic or Cox regression (after the target's kind) that is drawn as a nomogram."""

    kind: Literal["nomogram"]
    inputs: Annotated[tuple[Text, ...], Field(min_length=1, description="inputs or predictors, in axis order")]
    terms: dict[str, Transform] = Field({}, description="input: linear (default) | log | {rcs: knots}")
    encode: dict[str, Encoding] = Field(
        {}, description="lab: value (default) | kit, (y-L)/(H-L) | uln, multiples of the upper limit"
    )
    select: Literal["none", "univariable", "backward", "lasso"] = Field(
        "none", description="univariable (p < 0.1) replicates published studies and is not recommended"
    )
    shrink: Literal["uniform", "ridge", "none"] = Field(
        "uniform", description="uniform: coefficients times the optimism-corrected slope"
    )
    estimator: Literal["ml", "firth"] = Field(
        "ml", description="firth: bias-reduced logistic regression with FLIC intercept, finite under separation"
    )


class RadscorePredictor(Block):
    """A score of radiomic features, selected inside every fold: variance, stability, correlation, mRMR, LASSO."""

    kind: Literal["radscore"]
    inputs: Annotated[tuple[Text, ...], Field(min_length=1, description="radiomics inputs")]
    label: Text | None = Field(None, description="name on axes and in tables; default: the predictor's name")
    region: Text = Field("best", description="a region by name; best: chosen on inner folds, all of them tabulated")
    score: Literal["linear", "forest"] = Field(
        "linear", description="linear: the LASSO's linear predictor; forest: a random forest's probability"
    )
    correlation: Annotated[Number, Field(gt=0, le=1)] = Field(
        0.9, description="of two features with a higher absolute rank correlation one is kept"
    )
    mrmr: Annotated[Whole, Field(ge=1)] = Field(20, description="features that go from mRMR into the LASSO")
    penalty: Literal["min", "1se"] = Field("min", description="LASSO penalty by inner cross-validation")


Predictor = Annotated[
    NomogramPredictor
    | RadscorePredictor
    | NetworkPredictor
    | StackPredictor
    | AutogluonPredictor
    | BoostingPredictor
    | SlidePredictor,
    Field(discriminator="kind"),
]


class KFold(Block):
    """Repeated k-fold, stratified by outcome, patients whole."""

    kind: Literal["kfold"]
    folds: Annotated[Whole, Field(ge=2)] = Field(5, description="parts of the cohort; each is the test set once")
    repeats: Annotated[Whole, Field(ge=1)] = Field(1, description="how often the cohort is divided anew")


class LeaveOnePatientOut(Block):
    """As many folds as patients."""

    kind: Literal["leave_one_patient_out"]


class LeaveOneGroupOut(Block):
    """One fold per value of a column (a centre, a scanner)."""

    kind: Literal["leave_one_group_out"]
    column: Text = Field(description="column of the group; its rows must agree within a patient")


class TimeSplit(Block):
    """Train on patients before a date or number, test on those from it on."""

    kind: Literal["time"]
    column: Text = Field(description="number or ISO date (2021-05-31)")
    test_from: Level = Field(description="first value of the test period")


class Holdout(Block):
    """The table says who is in the test set."""

    kind: Literal["holdout"]
    column: Text = Field(description="column that marks the test set")
    test: Level = Field(description="the value that marks test patients")


Split = Annotated[KFold | LeaveOnePatientOut | LeaveOneGroupOut | TimeSplit | Holdout, Field(discriminator="kind")]


class Inner(Block):
    """Folds inside each training set, for whatever must be chosen there."""

    folds: Annotated[Whole, Field(ge=2)] = Field(5, description="parts of each training set")


class Optimism(Block):
    """Harrell's bootstrap of the whole pipeline."""

    predictors: tuple[Text, ...] = Field(description="predictors to repeat in every bootstrap sample")
    bootstraps: Annotated[Whole, Field(ge=1)] = Field(200, description="full fits; the time grows with them")


class Validation(Block):
    """How predictors are judged."""

    split: Split = Field(description="how patients are divided into training and test")
    inner: Inner | Literal["none"] = Field(
        Inner(), description="folds inside each training set; none: nothing is chosen"
    )
    optimism: Optimism | None = Field(None, description="bootstrap of the whole pipeline")
    seed: Annotated[Whole, Field(ge=0)] = Field(description="every random draw follows from it")


class Checks(Block):
    """Codes accepted with a reason, which is printed with every result."""

    accept: dict[str, Text] = Field({}, description="code: why this study goes on regardless")


class Report(Block):
    """What the report sets side by side."""

    compare: tuple[Text, ...] = Field((), description="predictors compared pairwise under the same folds")
    select: bool = Field(
        False,
        description="choose the simplest predictor within one standard error of the best; corrects for the choice",
    )
    adds: tuple[tuple[Text, Text], ...] = Field(
        (), description="pairs [without, with]: what the second predictor adds to the first"
    )


def _or_auto(written: dict[str, Any]) -> None:
    """JSON Schema of a block of predictors, or the word auto, which stands for those of a plan."""
    block = {"type": written.pop("type"), "additionalProperties": written.pop("additionalProperties")}
    written["anyOf"] = [{"const": AUTO, "type": "string"}, block]


class Schema(Block):
    """One study."""

    version: Literal[1] = Field(description="version of this schema")
    name: Annotated[Text, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="folder name under runs/")]
    study: Study = Field(description="what the study is")
    cohort: CohortBlock = Field(description="the table and its patients")
    time_of_prediction: Text = Field(description="one of `times`: when the prediction is made")
    times: Annotated[tuple[Text, ...], Field(min_length=1, description="points in time, in order")]
    target: Target = Field(description="the outcome")
    decision: Decision | None = Field(None, description="what the prediction serves; without it no decision curve")
    inputs: dict[str, Input] = Field(description="what is known about a patient, by name")
    predictors: dict[str, Predictor] = Field(
        description="models to fit and compare, by name; auto: the candidates of a plan, see `osml plan`",
        json_schema_extra=_or_auto,
    )
    missing: Literal["complete_case", "impute"] = Field(
        "complete_case", description="impute: regression on the other inputs, without the outcome, inside the fold"
    )
    validation: Validation = Field(description="how predictors are judged")
    checks: Checks = Field(Checks(accept={}), description="refusals accepted with a reason")
    report: Report = Field(Report(compare=(), select=False, adds=()), description="what the report sets side by side")

    def values(self) -> dict[str, ValueInput]:
        """The inputs that are cells of the table: numbers, labs, binaries, categories."""
        return {name: block for name, block in self.inputs.items() if isinstance(block, ValueInput)}

    def nomograms(self) -> dict[str, NomogramPredictor]:
        """The predictors that are regressions."""
        return {name: block for name, block in self.predictors.items() if isinstance(block, NomogramPredictor)}

    def networks(self) -> dict[str, NetworkPredictor]:
        """The predictors that are networks."""
        return {name: block for name, block in self.predictors.items() if isinstance(block, NetworkPredictor)}

    def encoded(self) -> dict[str, NetworkPredictor | SlidePredictor]:
        """The predictors that look through encoders which the schema names."""
        kinds = (NetworkPredictor, SlidePredictor)
        return {name: block for name, block in self.predictors.items() if isinstance(block, kinds)}

    def scores(self) -> dict[str, ScoreInput]:
        """The inputs that are scores of frozen bundles."""
        return {name: block for name, block in self.inputs.items() if isinstance(block, ScoreInput)}

    def images_read(self) -> tuple[str, ...]:
        """The images and volumes that predictors look at; radiomics of them are another thing."""
        used = {item for block in self.predictors.values() for item in block.inputs}
        return tuple(name for name, block in self.inputs.items() if name in used and isinstance(block, FileInput))

    def radiomics(self) -> dict[str, RadiomicsInput]:
        """The inputs that are computed from images."""
        return {name: block for name, block in self.inputs.items() if isinstance(block, RadiomicsInput)}

    def source(self, name: str) -> FileInput:
        """The image that a radiomics input is computed from."""
        block = self.inputs[name]
        assert isinstance(block, RadiomicsInput)
        found = self.inputs[block.of]
        assert isinstance(found, FileInput)
        return found

    def available(self, name: str) -> str:
        """When an input is known; radiomics are known with their image."""
        block = self.inputs[name]
        return self.source(name).available if isinstance(block, RadiomicsInput) else block.available

    def lineage(self, names: Collection[str]) -> tuple[str, ...]:
        """These predictors and all that feed them, each once."""
        found: list[str] = []
        for name in names:
            feeding = [item for item in self.predictors[name].inputs if item in self.predictors]
            found += [name, *self.lineage(feeding)]
        return tuple(dict.fromkeys(found))

    def ancestors(self, name: str) -> tuple[str, ...]:
        """All inputs that a predictor rests on, those of the predictors that feed it and their images included."""
        found: list[str] = []
        for item in self.predictors[name].inputs:
            if item in self.predictors:
                found += self.ancestors(item)
                continue
            block = self.inputs[item]
            found += [item, block.of] if isinstance(block, RadiomicsInput) else [item]
        return tuple(dict.fromkeys(found))
