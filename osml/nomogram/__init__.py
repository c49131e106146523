"""Nomograms: points that reproduce a model, proved, drawn and exported. Usable alone, from plain coefficients."""

from osml.nomogram.algebra import Nomogram, TotalRange
from osml.nomogram.bedside import Bedside, bedside_points
from osml.nomogram.build import build
from osml.nomogram.calculator import calculator
from osml.nomogram.coefficients import from_coefficients
from osml.nomogram.cox import cox_outcome
from osml.nomogram.draw import draw
from osml.nomogram.equation import coefficient_rows, equation
from osml.nomogram.interval import Interval
from osml.nomogram.patient import WorkedExample, worked_example
from osml.nomogram.ranges import AxisRange, axis_range, category_predictor, number_predictor
from osml.nomogram.reading import ReadingError, reading_error
from osml.nomogram.refusals import CODES, Facts, Finding, refusals
from osml.nomogram.serialise import from_json, to_dict, to_json
from osml.nomogram.spec import CoxOutcome, Histogram, LogisticOutcome, Outcome, Predictor, Unit
from osml.nomogram.surrogate import Fidelity, surrogate
from osml.nomogram.table import PointsTable, points_table
from osml.nomogram.verify import synthetic_cases, verify_points

__all__ = [
    "CODES",
    "AxisRange",
    "Bedside",
    "CoxOutcome",
    "Facts",
    "Fidelity",
    "Finding",
    "Histogram",
    "Interval",
    "LogisticOutcome",
    "Nomogram",
    "Outcome",
    "PointsTable",
    "Predictor",
    "ReadingError",
    "TotalRange",
    "Unit",
    "WorkedExample",
    "axis_range",
    "bedside_points",
    "build",
    "calculator",
    "category_predictor",
    "coefficient_rows",
    "cox_outcome",
    "draw",
    "equation",
    "from_coefficients",
    "from_json",
    "number_predictor",
    "points_table",
    "reading_error",
    "refusals",
    "surrogate",
    "synthetic_cases",
    "to_dict",
    "to_json",
    "verify_points",
    "worked_example",
]
