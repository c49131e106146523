"""Write a run's bundle: schema without its table, recipe, models, nomograms, facts beside results, golden cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from osml.files import atomic_write, write_json
from osml.predictors.chain import Chain
from osml.predictors.contract import Design
from osml.predictors.learn import complete
from osml.predictors.nomogram import FittedNomogram
from osml.predictors.tabular import Reader
from osml.runs.bundle import Bundle, fresh_folder, seal
from osml.runs.directory import RunDirectory
from osml.runs.store import PredictionRow
from osml.schema.load import LoadedSchema
from osml.schema.model import Schema
from osml.schema.targets import HierarchyTarget, MulticlassTarget
from osml.serving import golden, links, readers_of, recipe
from osml.serving.training_counts import NAME as TRAINING
from osml.serving.training_counts import training_counts
from osml.stats.terms import design_matrix
from osml.study.tasks import withheld


def publish(
    loaded: LoadedSchema,
    run: RunDirectory,
    chains: Mapping[str, tuple[Chain, Design]],
    metrics: Mapping[str, Any],
    rows: Sequence[PredictionRow] = (),
) -> Bundle:
    """Write and seal `bundle/` of a run.

    chains : predictor → its final chain and training design; means and counts of ten patients or more leave it
    rows : held-out predictions, of which counts are kept
    """
    folder = fresh_folder(run.path / "bundle")
    schema = loaded.schema
    write_json(folder / "schema.json", portable_schema(loaded))
    write_json(folder / "facts.json", facts(loaded, metrics))
    readers = {name: reader for chain, _ in chains.values() for name, reader in readers_of(chain).items()}
    write_json(folder / "recipe.json", recipe(schema, tuple(chains), readers))
    for name, (chain, design) in chains.items():
        place = folder / "predictors" / name
        chain.save(place)
        if isinstance(chain.fitted, FittedNomogram):
            write_json(place / "background.json", background(chain, design))
        source = run.path / "nomogram" / name
        if (source / "nomogram.json").is_file():
            for ending in ("json", "pdf", "svg", "html"):
                if (source / f"nomogram.{ending}").is_file():
                    atomic_write(place / f"nomogram.{ending}", (source / f"nomogram.{ending}").read_bytes())
        seen = {} if withheld(schema) else held_out(name, rows)
        write_json(place / TRAINING, training_counts(schema, name, design.cohort, seen))
        for link, where in links(chain, f"predictors/{name}"):
            write_json(folder / where / "golden.json", golden(link.fitted))
    identity = {"study": schema.name, "seed": schema.validation.seed, "schema_sha256": loaded.digest()}
    return seal(folder, identity | ({"encoders": encoders(readers)} if readers else {}))


def held_out(name: str, rows: Sequence[PredictionRow]) -> dict[str, list[float]]:
    """Column → predictions of a predictor for patients that it had not seen, each unit once."""
    out: dict[str, list[float]] = {}
    for row in rows:
        if row.predictor == name and row.repeat == 0:
            out.setdefault(row.column, []).append(row.p)
    return out


def encoders(readers: Mapping[str, Reader]) -> list[dict[str, Any]]:
    """The pretrained weights that predictors look through, each once: where they come from, SHA-256 and licence."""
    found = [dict(record.weights) for reader in readers.values() for record in reader.encoders.values()]
    return [one for k, one in enumerate(found) if one not in found[:k]]


def portable_schema(loaded: LoadedSchema) -> dict[str, Any]:
    """The resolved schema without paths, because a path can name a person or a place.

    Of the table the name's ending is kept, of an encoder's weights the file name.
    """
    data = loaded.resolved()
    data["cohort"]["table"] = "table" + loaded.table_path.suffix
    for block in data["predictors"].values():
        for encoder in (block.get("encoders") or {}).values():
            if encoder.get("weights") not in (None, "hub"):
                encoder["weights"] = Path(encoder["weights"]).name
    return data


def facts(loaded: LoadedSchema, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What stands beside every prediction: event, time, population, validation, performance."""
    schema = loaded.schema
    study = schema.study
    classes = isinstance(schema.target, MulticlassTarget | HierarchyTarget)
    kind = schema.validation.split.kind
    validation = {
        "holdout": "tested on patients set apart in this study",
        "time": "tested on later patients of this study",
        "leave_one_group_out": "internally validated only, each group left out in turn",
    }
    developed = next((f["development"] for f in metrics["predictors"].values() if "development" in f), None)
    return {
        "title": study.title or schema.name,
        "event": study.endpoint or _event(schema),
        "time_of_prediction": schema.time_of_prediction,
        "population": study.population,
        "centre": study.centre,
        "period": study.period,
        "synthetic": study.synthetic,
        "sampling": study.sampling,
        "prevalence": None if study.prevalence is None else study.prevalence.model_dump(),
        "withheld": withheld(schema),
        "validation": validation.get(kind, "internally validated only"),
        "n": metrics["patients"] if developed is None else developed["patients"],
        "rows": metrics["n"] if developed is None else developed["rows"],
        "events": metrics["events"] if developed is None else developed["events"],
        "outcomes": metrics["outcomes"] if classes else None,
        "decision": None if schema.decision is None else schema.decision.model_dump(),
        "accepted": metrics["accepted"],
        "checks": metrics["checks"],
        "chosen": metrics.get("selection", {}).get("winner"),
        "choice": _choice(metrics.get("selection", {})),
        "predictors": {
            name: {
                key: facts[key]
                for key in (
                    "out_of_fold",
                    "apparent",
                    "optimism_corrected",
                    "shrinkage",
                    "candidate_parameters",
                    "selected",
                    "network",
                    "stack",
                    "boosting",
                    "autogluon",
                    "search",
                )
                if key in facts
            }
            for name, facts in metrics["predictors"].items()
        },
    }


def _choice(selection: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the chosen predictor is worth after the choice; None where nothing was chosen."""
    if "winner" not in selection:
        return None
    kept = {key: selection[key] for key in ("rule", "draws", "uncorrected", "corrected")}
    return {"candidates": len(selection["table"]), **kept}


def _event(schema: Schema) -> str:
    target = schema.target
    if isinstance(target, MulticlassTarget | HierarchyTarget):
        return f"class of {target.column!r}"
    return target.positive if target.kind == "binary" else "the event"


def background(chain: Chain, design: Design) -> dict[str, Any]:
    """Mean of every design column over the training patients: the reference of exact SHAP values."""
    fitted = chain.fitted
    assert isinstance(fitted, FittedNomogram)
    filled, _ = complete(fitted.imputer, fitted.recipe.values(design))
    means = design_matrix(fitted.model.terms, filled).mean(axis=0) if fitted.model.terms else np.empty(0)
    return {"columns": [c for t in fitted.model.terms for c in t.columns], "means": [float(m) for m in means]}
