"""The bundle of a region study: schema, recipe, facts, predictors, and who was trained on, as keyed hashes."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from osml.cohort.splits import Fold
from osml.evaluation.huvos import MIN_REFERENCES
from osml.files import sha256_file, write_json
from osml.runs.bundle import Bundle, fresh_folder, seal
from osml.runs.directory import RunDirectory
from osml.schema.load import LoadedSchema
from osml.study.publish import portable_schema
from osml.study.slides.record import development
from osml.study.slides.table import Lost, SlideTable, parts, without
from osml.study.slides.tables import OOF

if TYPE_CHECKING:
    from osml.predictors.slide import FittedSlide

TRAINING = "training.json"


def publish(
    loaded: LoadedSchema, slides: SlideTable, lost: Sequence[Lost], run: RunDirectory,
    models: Mapping[str, FittedSlide], folds: Sequence[Fold], metrics: Mapping[str, Any],
) -> Bundle:  # fmt: skip
    """Write and seal `bundle/` of a run; no name, row or picture of a patient is in it."""
    folder = fresh_folder(run.path / "bundle")
    schema = loaded.schema
    target, source, _ = parts(loaded)
    write_json(folder / "schema.json", portable_schema(loaded))
    write_json(folder / "facts.json", facts(loaded, metrics))
    recipe = {
        "kind": "region", "slide": source, "classes": {c: k.model_dump() for c, k in target.classes.items()},
        "necrosis": None if target.necrosis is None else target.necrosis.model_dump(),
        "predictors": list(models),
    }  # fmt: skip
    write_json(folder / "recipe.json", recipe)
    inside = set(development(loaded, folds))
    trained = [c for c in without(slides, lost) if c.patient in inside and c.annotation is not None]
    key = training_key(loaded.digest(), slides.table.sha256)
    contents = (slides.hashes[case.slide].partition(":")[0] for case in trained)
    hashes = {"patients": keyed(key, (c.patient for c in trained)), "slides": keyed(key, contents)}
    oof = run.path / OOF
    of_file = {"oof_sha256": sha256_file(oof) if oof.is_file() else None}
    write_json(folder / TRAINING, {"key": key.hex(), "hash": "HMAC-SHA256", **hashes, **of_file})
    for name, model in models.items():
        model.save(folder / "predictors" / name)
    encoders: list[dict[str, Any]] = []
    for model in models.values():
        record = dict(model.weights.as_json())
        encoders += [record] if record not in encoders else []
    identity = {"study": schema.name, "seed": schema.validation.seed, "schema_sha256": loaded.digest()}
    return seal(folder, identity | {"target": "region", "encoders": encoders})


def training_key(schema: str, table: str) -> bytes:
    """The key of a bundle's hashes: of this study only, so that two bundles do not tell who was in both. Whoever has
    the bundle and a list of names can find out which of them are in it; without names nothing can be read from it."""
    return hashlib.sha256(f"osml training patients {schema} {table}".encode()).digest()


def keyed(key: bytes, names: Iterable[str]) -> list[str]:
    """HMAC-SHA256 of each different name, sorted.

    >>> keyed(b"k", ["a", "a"]) == keyed(b"k", ["a"]) and keyed(b"k", ["a"]) != keyed(b"l", ["a"])
    True
    """
    return sorted({hmac.new(key, name.encode(), hashlib.sha256).hexdigest() for name in names})


def facts(loaded: LoadedSchema, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What stands beside every prediction."""
    schema = loaded.schema
    study = schema.study
    validation = {
        "holdout": "tested on patients set apart in this study",
        "time": "tested on later patients of this study",
        "leave_one_group_out": "internally validated only, each group left out in turn",
    }
    return {
        "title": study.title or schema.name,
        "event": study.endpoint or "classes of tissue on whole slides",
        "time_of_prediction": schema.time_of_prediction,
        "population": study.population,
        "centre": study.centre,
        "period": study.period,
        "synthetic": study.synthetic,
        "sampling": study.sampling,
        "prevalence": None,
        "withheld": "",
        "validation": validation.get(schema.validation.split.kind, "internally validated only"),
        "target": "region",
        "n": metrics["annotated_patients"],
        "rows": metrics["outcomes"]["annotated"],
        "events": None,
        "outcomes": None,
        "decision": None,
        "accepted": metrics["accepted"],
        "checks": metrics["checks"],
        "chosen": None,
        "choice": None,
        "classes": metrics["classes"],
        "notice": "Research use only. Not a pathology report.",
        "predictors": {name: _predictor(found) for name, found in metrics["predictors"].items()},
    }


def _predictor(found: Mapping[str, Any]) -> dict[str, Any]:
    """Held-out performance; of patients only what no single one can be read from."""
    if "maps" not in found:
        return {"reason": found.get("reason", "not judged")}
    deployed = found["deployed"]
    kept = {key: found[key] for key in ("deployed", "chosen", "slides", "patients", "detection_limit") if key in found}
    maps = {
        kind: {key: value for key, value in facts.items() if key != "by_patient"}
        for kind, facts in found["maps"].items()
    }
    out = kept | {"maps": maps, "gain": found["gain"], "out_of_fold": {"miou": maps[deployed]["overall"]["miou"]}}
    pairs = [
        (row["reference"], row["predicted_there"]) for row in found.get("necrosis_by_patient", ())
        if row["reference"] is not None and row["predicted_there"] is not None
    ]  # fmt: skip
    if len(pairs) >= MIN_REFERENCES:
        differences = np.sort(np.round([r - p for r, p in pairs], 3))
        out["huvos_differences"] = differences.tolist()
    return out
