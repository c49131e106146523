"""What tests of several packages share: real data, required peers, and small studies on disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from ruamel.yaml import YAML

from osml.cohort.build import BuiltCohort, read_cohort
from osml.cohort.cohort import BinaryOutcome, Cohort, SurvivalOutcome
from osml.errors import TableError
from osml.schema.load import LoadedSchema, load_schema

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "tests" / "reference"


def require(name: str, reason: str) -> NoReturn:
    """Skip with a plain reason, or fail where $OSML_REQUIRE (comma separated) says that `name` must be there."""
    required = {part.strip() for part in os.environ.get("OSML_REQUIRE", "").split(",") if part.strip()}
    if name in required:
        pytest.fail(f"{name} is required here ($OSML_REQUIRE): {reason}", pytrace=False)
    pytest.skip(f"{reason} (not required here: $OSML_REQUIRE does not name {name!r})")


def data_path(*parts: str) -> Path:
    """A file of the real data folder: $OSML_DATA, or ../shared/data beside the repository."""
    folder = Path(os.environ.get("OSML_DATA") or ROOT.parent / "shared" / "data")
    path = folder.joinpath(*parts)
    if not path.exists():
        require("data", f"no real data at {path}")
    return path


def reference_table(name: str) -> Path:
    """A textbook table kept with the tests, e.g. `birthwt.csv`."""
    return REFERENCE / "r" / "data" / name


def minimal_schema() -> dict[str, Any]:
    """The smallest schema that loads: `clinic.csv` with one binary outcome, a number and a category."""
    return {
        "version": 1,
        "name": "clinic",
        "study": {"sampling": "cohort"},
        "cohort": {"table": "clinic.csv", "patient": "id"},
        "time_of_prediction": "visit",
        "times": ["visit", "surgery"],
        "target": {"kind": "binary", "column": "outcome", "positive": "yes"},
        "inputs": {
            "age": {"kind": "number", "unit": "year", "available": "visit"},
            "sex": {"kind": "binary", "levels": ["male", "female"], "available": "visit"},
        },
        "predictors": {"clinical": {"kind": "nomogram", "inputs": ["age", "sex"]}},
        "validation": {"split": {"kind": "kfold", "folds": 2}, "seed": 1},
    }


def survival_target(**changes: Any) -> dict[str, Any]:
    """A survival target for `minimal_schema`, follow-up in months."""
    target = {
        "kind": "survival", "time": "months", "event": "died", "unit": "month", "horizons": [12], "competing": "none",
    }  # fmt: skip
    return {**target, **changes}


def full_schema() -> dict[str, Any]:
    """A valid schema in which nearly every key of the schema is written, for tests that walk all of them."""
    data = minimal_schema()
    data["study"] |= {
        "title": "t", "endpoint": "e", "population": "p", "centre": "c", "period": "2020", "synthetic": "simulated",
        "sampling": "enriched", "prevalence": {"value": 0.2, "source": "registry"},
    }  # fmt: skip
    data["cohort"] |= {"row": "visit_id", "missing": ["", "NA"], "delimiter": ",", "sheet": "one", "site": "centre"}
    data["target"]["negative"] = "no"
    data["decision"] = {"action": "biopsy", "act_on": "yes", "thresholds": [0.1, 0.4], "why": "range of opinion"}
    data["inputs"] = {
        "age": {
            "kind": "number", "column": "age_years", "label": "Age", "unit": "year", "limits": [0, 110],
            "censored": {"below": "half", "above": "limit"}, "table_unit": "month", "available": "visit",
        },
        "sex": {"kind": "binary", "column": "sex_text", "label": "Sex", "levels": ["male", "female"],
                "available": "visit"},
        "site": {
            "kind": "category", "column": "site_text", "label": "Site", "levels": ["arm", "leg"],
            "groups": {"leg": ["thigh", "calf"]}, "available": "visit",
        },
        "alp": {
            "kind": "lab", "column": "alp_value", "label": "ALP", "unit": "U/L", "limits": [0, 9000],
            "censored": {"below": "limit"}, "table_unit": {"column": "alp_unit"}, "available": "visit",
            "kit": {
                "by": {"sex": "sex", "age": "age"},
                "bands": [{"sex": "male", "age": [0, 18], "low": 50, "high": 300}],
            },
        },
        "ldh": {"kind": "lab", "unit": "U/L", "kit": {"low": "ldh_low", "high": "ldh_high"}, "available": "visit"},
    }  # fmt: skip
    data["predictors"] = {
        "clinical": {
            "kind": "nomogram", "inputs": ["age", "sex", "site", "alp", "ldh"],
            "terms": {"age": {"rcs": 4}, "alp": "log"}, "encode": {"ldh": "uln"},
            "select": "none", "shrink": "uniform", "estimator": "ml",
        },
        "second": {"kind": "nomogram", "inputs": ["clinical", "age"]},
    }  # fmt: skip
    data["missing"] = "impute"
    data["validation"] = {
        "split": {"kind": "kfold", "folds": 5, "repeats": 2},
        "inner": {"folds": 3},
        "optimism": {"predictors": ["clinical"], "bootstraps": 20},
        "seed": 7,
    }
    data["checks"] = {"accept": {"OSML041": "development study"}}
    data["report"] = {"compare": ["clinical", "second"], "select": True, "adds": [["clinical", "second"]]}
    return data


def image_schema() -> dict[str, Any]:
    """A valid schema in which every key about images is written."""
    data = minimal_schema()
    data["cohort"]["site"] = "centre"
    data["inputs"] |= {
        "t2": {
            "kind": "volume", "column": "t2_path", "label": "T2", "body": "t2_body", "available": "visit",
            "mask": {"column": "t2_mask", "label": 1, "others": "keep"},
        },
        "xray": {"kind": "image", "column": "xray_path", "label": "X-ray", "mask": {"column": "xray_mask"},
                 "available": "visit"},
        "rad": {
            "kind": "radiomics", "of": "t2", "label": "T2 radiomics",
            "normalise": {"method": "zscore", "over": "body", "scale": 100}, "spacing": [1, 1, 3],
            "bins": {"width": 25}, "regions": ["tumour", "tumour+2mm"], "filters": ["original", {"log": [1, 2]}],
            "classes": ["firstorder", "glcm"], "crop": "shared", "leaving": "clip", "in_plane": True, "ibsi": False,
            "engine": "osml", "stability": {"masks": "t2_mask2", "icc": "2,1", "min": 0.8}, "harmonise": "combat",
        },
        "flat": {"kind": "radiomics", "of": "xray", "bins": {"count": 32}, "stability": {"perturb": 3}},
    }  # fmt: skip
    data["predictors"]["radscore"] = {
        "kind": "radscore", "label": "Rad-score", "inputs": ["rad"], "region": "best", "score": "forest",
        "correlation": 0.9, "mrmr": 20, "penalty": "1se",
    }  # fmt: skip
    return data


def hierarchy_target(**changes: Any) -> dict[str, Any]:
    """A target of three classes in a tree, one of whose values stops at the inner node."""
    target = {
        "kind": "hierarchy", "column": "tissue", "tree": ["non_tumor", {"tumor": ["non_viable", "viable"]}],
        "partial": {"mixed": "tumor"},
    }  # fmt: skip
    return {**target, **changes}


def network_schema() -> dict[str, Any]:
    """A valid schema of rows with classes in a tree, in which every key about networks and tiles is written."""
    data = minimal_schema()
    data["cohort"] |= {"row": "tile_id", "position": {"slide": "slide", "x": "x", "y": "y", "size": 1024}}
    data["target"] = hierarchy_target()
    lab = {"kind": "lab", "unit": "U/L", "kit": {"low": 40, "high": 120}, "available": "visit"}
    data["inputs"] |= {
        "alp": lab, "ldh": lab,
        "tile": {"kind": "image", "column": "path", "several": False, "orientation": "free", "mpp": 0.5,
                 "available": "visit"},
        "slide_view": {"kind": "image", "column": "overview", "available": "visit"},
        "nuclei": {"kind": "radiomics", "of": "tile", "mask": "nuclei", "channels": ["haematoxylin", "grey"],
                   "classes": ["firstorder", "glcm"]},
    }  # fmt: skip
    encoder = {"model": "default", "weights": "weights.safetensors", "tune": "lora", "rank": 4, "size": 224,
               "scale": "resize"}  # fmt: skip
    train = {
        "preset": "fine-tune", "epochs": 9, "batch": 16, "optimizer": "adamw", "rate": 0.001, "encoder_rate": 0.0001,
        "weight_decay": 0.01, "patience": 3, "ema": 0.99,
    }  # fmt: skip
    shared = {"kind": "network", "inputs": ["tile", "nuclei", "age", "sex", "alp"], "fusion": "gated", "width": 64}
    data["predictors"] = {
        "net": {
            **shared, "label": "Network", "encoders": {"tile": encoder},
            "encode": {"age": {"divide": 100}, "alp": "kit"}, "reduce": "attention", "head": "tree",
            "node_weights": {"kind": "uncertainty", "eta": 0.5}, "dropout": 0.2, "modality_dropout": 0.2, "seeds": 2,
            "train": train, "calibrate": "temperature", "abstain": 0.1, "ablation": "inputs",
        },
        "flat": {
            "kind": "network", "inputs": ["tile", "age"], "head": "flat", "head_dropout": 0.1,
            "encoders": {"tile": {"layers": ["blocks.3"], "stain": 2}},
        },
        "both": {"kind": "stack", "label": "Stack", "inputs": ["net", "flat"], "method": "mean"},
    }  # fmt: skip
    return data


def tabular_schema() -> dict[str, Any]:
    """A valid schema in which every key about boosting and searches is written."""
    data = minimal_schema()
    data["predictors"]["boosted"] = {
        "kind": "boosting", "label": "Boosted trees", "inputs": ["age", "sex"], "leaves": 4, "smallest_leaf": 6,
        "rate": 0.1, "rounds": 40, "columns": 0.9, "l2": 2, "calibrate": True, "search": {"trials": 5},
    }  # fmt: skip
    data["predictors"]["net"] = {"kind": "network", "inputs": ["age", "sex"], "search": {"trials": 4}}
    return data


def autogluon_schema() -> dict[str, Any]:
    """A valid schema in which every key about AutoGluon is written."""
    data = minimal_schema()
    data["predictors"]["many"] = {
        "kind": "autogluon", "label": "Many models", "inputs": ["age", "sex", "clinical"], "presets": "best_quality",
        "time_limit": 30, "memory_limit": 2.5, "calibrate": False,
    }  # fmt: skip
    return data


def slide_schema() -> dict[str, Any]:
    """A valid region study in which every key about slides is written."""
    data = minimal_schema()
    data["cohort"] |= {"table": "slides.csv", "row": "slide"}
    data["target"] = {
        "kind": "region", "of": "wsi", "column": "annotation",
        "classes": {
            "BG": {"name": "background", "colour": "#ffffff"},
            "VT": {"name": "viable tumour", "colour": "#c81e28"},
            "NC": {"name": "necrosis", "colour": "#3c3c3c"},
        },
        "necrosis": {"viable": ["VT"], "necrotic": ["NC"]},
    }  # fmt: skip
    data["inputs"] = {
        "wsi": {"kind": "slide", "column": "file", "label": "Slide", "mpp": 0.5, "available": "visit"},
    }  # fmt: skip
    data["predictors"] = {
        "necrosis": {
            "kind": "slide", "label": "Necrosis", "inputs": ["wsi"],
            "tile": {"size_um": 128, "stride_um": 64, "mpp": 1},
            "encoders": {"wsi": {"model": "default", "weights": "hub", "tune": {"lora": {"rank": 8, "alpha": 16}}}},
            "refine": "majority", "refiner": {"width": 16, "steps": 9}, "min_tissue": 0.2,
        },
    }  # fmt: skip
    data["validation"]["inner"] = {"folds": 2}
    return data


def score_schema() -> dict[str, Any]:
    """A valid schema in which every key about scores of a bundle is written."""
    data = minimal_schema()
    data["inputs"] |= {
        "wsi": {"kind": "slide", "column": "file", "available": "visit"},
        "necrosis": {
            "kind": "score", "of": "wsi", "bundle": "bundle", "output": "necrosis_rate", "oof": "necrosis_oof.csv",
            "label": "Necrosis rate", "available": "visit",
        },
    }  # fmt: skip
    data["predictors"]["clinical"]["inputs"].append("necrosis")
    return data


def write_schema(folder: Path, data: Mapping[str, Any], name: str = "study.yaml") -> Path:
    """Write a schema as block-style YAML, one key a line."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    path = folder / name
    with path.open("w", encoding="utf-8") as stream:
        yaml.dump(dict(data), stream)
    return path


CLINIC_HEADER = ("id", "age", "sex", "outcome")


def clinic_rows(n: int = 12) -> list[list[str]]:
    """Rows that suit `minimal_schema`: ids P00, P01, …, every fourth patient with the event."""
    return [[f"P{i:02d}", str(30 + i), ("male", "female")[i % 2], "yes" if i % 4 == 0 else "no"] for i in range(n)]


def write_csv_table(path: Path, rows: Iterable[Sequence[str]], header: Sequence[str] = CLINIC_HEADER) -> Path:
    """A plain comma-separated file, cells exactly as given."""
    path.write_text("\n".join(",".join(row) for row in [header, *rows]) + "\n", encoding="utf-8")
    return path


def study(
    folder: Path,
    rows: Iterable[Sequence[str]] | None = None,
    header: Sequence[str] = CLINIC_HEADER,
    change: Callable[[dict[str, Any]], None] | None = None,
) -> LoadedSchema:
    """A minimal study on disk, loaded: `rows` become clinic.csv, `change` edits the schema before it is written."""
    data = minimal_schema()
    if change is not None:
        change(data)
    write_csv_table(folder / "clinic.csv", clinic_rows() if rows is None else rows, header)
    return load_schema(write_schema(folder, data))


def built(folder: Path, *args: Any, **kwargs: Any) -> BuiltCohort:
    """`study`, read into a cohort."""
    return read_cohort(study(folder, *args, **kwargs))


def refused(folder: Path, *args: Any, **kwargs: Any) -> str:
    """The message with which the table of a `study` is refused."""
    with pytest.raises(TableError) as caught:
        built(folder, *args, **kwargs)
    return str(caught.value)


def clinic_with(**cells: str) -> list[list[str]]:
    """Clinic rows with `column=text` written into the third row (line 4, patient P02)."""
    rows = clinic_rows()
    for column, text in cells.items():
        rows[2][CLINIC_HEADER.index(column)] = text
    return rows


def binary_cohort(patients: Sequence[str], events: Sequence[bool], **keys: Sequence[str]) -> Cohort:
    """A cohort in memory, one unit per entry; `patients` may repeat. Its one input counts the units."""
    n = len(patients)
    return Cohort(
        units=tuple(f"u{i}" for i in range(n)),
        patients=tuple(patients),
        copies=np.zeros(n, dtype=np.intp),
        values={"x": np.arange(n, dtype=np.float64)},
        kit={"x": (np.zeros(n), np.arange(1, n + 1, dtype=np.float64))},
        keys={name: tuple(texts) for name, texts in keys.items()},
        outcome=BinaryOutcome(np.asarray(events, dtype=np.float64), "yes", "no"),
        per_row=len(set(patients)) < n,
    )


def survival_cohort(times: Sequence[float], events: Sequence[bool]) -> Cohort:
    """A cohort in memory with a survival outcome in months, one unit per patient."""
    n = len(times)
    outcome = SurvivalOutcome(np.asarray(times, dtype=np.float64), np.asarray(events, dtype=bool), "month", (1.0,))
    names = tuple(f"P{i}" for i in range(n))
    values = {"x": np.arange(n, dtype=np.float64)}
    return Cohort(names, names, np.zeros(n, dtype=np.intp), values, {}, {}, outcome)
