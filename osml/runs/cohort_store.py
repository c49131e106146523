"""The cohort of a run on disk (never in a bundle): reports and explanations can be made again from the run alone."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from osml.cohort.cohort import (
    BinaryOutcome,
    ClassOutcome,
    Cohort,
    FeatureTable,
    ImageTable,
    Outcome,
    SurvivalOutcome,
)
from osml.files import atomic_write, read_json, write_json
from osml.stats.tree import LabelTree


def write_cohort(path: Path, cohort: Cohort) -> None:
    """Parquet: unit, patient, `value:<input>`, `low:<lab>`, `high:<lab>`, `key:<column>`, `file:<input>`, the outcome.

    Features of images stand beside it, `features_<input>.npy` with their names in JSON; readings for stability do not.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {"unit": list(cohort.units), "patient": list(cohort.patients)}
    columns |= {f"value:{name}": x for name, x in cohort.values.items()}
    for name, (low, high) in cohort.kit.items():
        columns |= {f"low:{name}": low, f"high:{name}": high}
    columns |= {f"key:{name}": list(texts) for name, texts in cohort.keys.items()}
    columns |= {f"file:{name}": list(paths) for name, paths in cohort.files.items()}
    columns |= {f"files:{name}": [list(paths) for paths in units] for name, units in cohort.several.items()}
    facts: dict[str, str] = {"per_row": str(int(cohort.per_row))}
    outcome = cohort.outcome
    if isinstance(outcome, BinaryOutcome):
        columns["y"] = outcome.y
        facts |= {"positive": outcome.positive, "negative": outcome.negative}
    elif isinstance(outcome, SurvivalOutcome):
        columns |= {"time": outcome.time, "event": outcome.event}
        facts |= {"unit": outcome.unit, "horizons": " ".join(repr(float(h)) for h in outcome.horizons)}
        if outcome.competing is not None:
            columns["competing"] = outcome.competing
    elif isinstance(outcome, ClassOutcome):
        columns["label"] = list(outcome.labels)
        facts |= {"nodes": json.dumps(outcome.tree.nodes), "parents": json.dumps(outcome.tree.parents)}
    sink = io.BytesIO()
    pq.write_table(pa.table(columns).replace_schema_metadata(facts), sink, compression="zstd", write_statistics=False)
    atomic_write(path, sink.getvalue())
    if cohort.images:
        _write_images(path.parent, cohort)
    for name, table in cohort.features.items():
        raw = io.BytesIO()
        np.save(raw, table.x, allow_pickle=False)
        atomic_write(path.with_name(f"features_{name}.npy"), raw.getvalue())
        write_json(path.with_name(f"features_{name}.json"), list(table.columns))


def _write_images(folder: Path, cohort: Cohort) -> None:
    """images.json: for every table of images, the file in the cache and the images of each unit."""
    write_json(
        folder / "images.json",
        {
            key: {"stored": str(table.stored), "item": table.item.tolist(), "row": table.row.tolist()}
            for key, table in cohort.images.items()
            if isinstance(table.stored, Path)
        },
    )


def _images(folder: Path) -> dict[str, ImageTable]:
    file = folder / "images.json"
    if not file.is_file():
        return {}
    return {
        key: ImageTable(Path(t["stored"]), np.array(t["item"], dtype=np.intp), np.array(t["row"], dtype=np.intp))
        for key, t in read_json(file).items()
    }


def load_cohort(path: Path) -> Cohort:
    """Inverse of `write_cohort`; exclusions stay in cohort/exclusions.csv."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    facts = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
    columns = {name: table.column(name) for name in table.column_names}

    def numbers(name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.asarray(columns[name].to_pylist(), dtype=np.float64)

    def named(prefix: str) -> list[str]:
        return [name.removeprefix(prefix) for name in columns if name.startswith(prefix)]

    outcome: Outcome
    if "y" in columns:
        outcome = BinaryOutcome(numbers("y"), facts["positive"], facts["negative"])
    elif "label" in columns:
        tree = LabelTree(tuple(json.loads(facts["nodes"])), tuple(json.loads(facts["parents"])))
        outcome = ClassOutcome(tree.positions(columns["label"].to_pylist()), tree)
    else:
        competing = np.array(columns["competing"].to_pylist(), dtype=bool) if "competing" in columns else None
        horizons = tuple(float(h) for h in facts["horizons"].split())
        event = np.array(columns["event"].to_pylist(), dtype=bool)
        outcome = SurvivalOutcome(numbers("time"), event, facts["unit"], horizons, competing)
    return Cohort(
        units=tuple(columns["unit"].to_pylist()),
        patients=tuple(columns["patient"].to_pylist()),
        copies=np.zeros(table.num_rows, dtype=np.intp),
        values={name: numbers(f"value:{name}") for name in named("value:")},
        kit={name: (numbers(f"low:{name}"), numbers(f"high:{name}")) for name in named("low:")},
        keys={name: tuple(columns[f"key:{name}"].to_pylist()) for name in named("key:")},
        outcome=outcome,
        per_row=facts["per_row"] == "1",
        files={name: tuple(columns[f"file:{name}"].to_pylist()) for name in named("file:")},
        several={name: tuple(map(tuple, columns[f"files:{name}"].to_pylist())) for name in named("files:")},
        images=_images(path.parent),
        features={
            file.stem.removeprefix("features_"): FeatureTable(
                tuple(read_json(file.with_suffix(".json"))), np.load(file, allow_pickle=False)
            )
            for file in sorted(path.parent.glob("features_*.npy"))
        },
    )
