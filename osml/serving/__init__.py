"""The only door for the app and the command line: load a run or a bundle, ask what it needs, predict, explain, print.

Nothing is fitted here, and nothing is unpickled without the user's trust. A bundle is verified file by file and its
golden cases are replayed before it serves.
"""

from osml.runs.bundle import manifest_hash
from osml.serving.encoders import readers_of
from osml.serving.explain import Answer, Contribution, Curve, Explanation, Gap
from osml.serving.export import patients_csv, patients_table, record, rows_csv, rows_table
from osml.serving.form import SITE, Field, FormTable, ImageField, needed_inputs
from osml.serving.golden import golden, links
from osml.serving.loading import available_predictors, bundle_folder, find_bundles, load, read_patients
from osml.serving.model import Model
from osml.serving.patient_sheet import patient_sheet, sheet_refusal
from osml.serving.recipe import recipe
from osml.serving.regions import (
    NOT_A_REPORT,
    RegionModel,
    class_grid,
    is_region,
    load_region,
    refiner_grid,
    region_predictors,
    region_rows,
)
from osml.serving.rows import Row
from osml.serving.slide_jobs import SlideJob, SlideJobs
from osml.serving.slide_roots import chosen_slide, list_slides, slide_root
from osml.serving.slide_view import (
    FILES,
    ZOOM_MM,
    SegmentedSlide,
    area_grid,
    finished,
    legend,
    look,
    necrosis_rate,
    necrosis_words,
    overlay,
    region_box,
    trained_on,
)
from osml.serving.table_files import table_with_files
from osml.serving.table_pictures import FilesTable, measured_of
from osml.serving.uploads import read_upload
from osml.serving.words import (
    EQUAL_SHARES,
    fact_rows,
    frequency_words,
    in_hundred,
    interval_words,
    percent,
    risk_words,
    statement,
    undecided_words,
)

__all__ = [
    "EQUAL_SHARES",
    "FILES",
    "NOT_A_REPORT",
    "SITE",
    "ZOOM_MM",
    "Answer",
    "Contribution",
    "Curve",
    "Explanation",
    "Field",
    "FilesTable",
    "FormTable",
    "Gap",
    "ImageField",
    "Model",
    "RegionModel",
    "Row",
    "SegmentedSlide",
    "SlideJob",
    "SlideJobs",
    "area_grid",
    "available_predictors",
    "bundle_folder",
    "chosen_slide",
    "class_grid",
    "fact_rows",
    "find_bundles",
    "finished",
    "frequency_words",
    "golden",
    "in_hundred",
    "interval_words",
    "is_region",
    "legend",
    "links",
    "list_slides",
    "load",
    "load_region",
    "look",
    "manifest_hash",
    "measured_of",
    "necrosis_rate",
    "necrosis_words",
    "needed_inputs",
    "overlay",
    "patient_sheet",
    "patients_csv",
    "patients_table",
    "percent",
    "read_patients",
    "read_upload",
    "readers_of",
    "recipe",
    "record",
    "refiner_grid",
    "region_box",
    "region_predictors",
    "region_rows",
    "risk_words",
    "rows_csv",
    "rows_table",
    "sheet_refusal",
    "slide_root",
    "statement",
    "table_with_files",
    "trained_on",
    "undecided_words",
]
