"""What a region study writes down before anything is fitted: schema, environment, slides used and not used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from osml.cohort.splits import Fold
from osml.engine import current_place
from osml.files import atomic_write, write_csv, write_json
from osml.runs.directory import RunDirectory, environment
from osml.schema.load import LoadedSchema
from osml.schema.model import Holdout, TimeSplit
from osml.study.slides.table import Lost, SlideTable, without


def record(
    loaded: LoadedSchema, slides: SlideTable, lost: Sequence[Lost], run: RunDirectory, workers: int | None, device: str
) -> None:
    """The schema as written and as read, environment.json, cohort/ with summary.json, images.csv and exclusions.csv."""
    from ruamel.yaml import YAML

    atomic_write(run.path / "schema.yaml", loaded.path.read_bytes())
    resolved = loaded.resolved()
    yaml = YAML()
    yaml.default_flow_style = False
    with (run.path / ".schema.part").open("w", encoding="utf-8") as stream:
        yaml.dump(resolved, stream)
    (run.path / ".schema.part").replace(run.path / "schema.resolved.yaml")
    write_json(run.path / "schema.resolved.json", resolved)
    write_json(run.path / "environment.json", environment(device, workers, current_place()))
    write_json(run.path / "cohort" / "summary.json", summary(slides, lost))
    rows = [(one.patient, one.slide, one.reason, one.detail) for one in lost]
    write_csv(run.path / "cohort" / "images.csv", ("patient", "slide", "reason", "detail"), rows)
    used = {case.patient for case in without(slides, lost)}
    gone = dict.fromkeys(one.patient for one in lost if one.patient not in used)
    write_csv(
        run.path / "cohort" / "exclusions.csv", ("patient", "reason", "where"),
        [(name, "no usable slide", "cohort/images.csv") for name in gone],
    )  # fmt: skip


def summary(slides: SlideTable, lost: Sequence[Lost]) -> dict[str, Any]:
    """Counts of a region study; the keys that other studies have, too."""
    used = without(slides, lost)
    drawn = [case for case in used if case.annotation is not None]
    reasons: dict[str, int] = {}
    for one in lost:
        reasons[one.reason] = reasons.get(one.reason, 0) + 1
    return {
        "table": slides.table.name,
        "sha256": slides.table.sha256,
        "rows": len(slides.table.rows),
        "units": len(used),
        "patients": len({case.patient for case in used}),
        "events": None,
        "outcomes": {"annotated": len(drawn), "predicted only": len(used) - len(drawn)},
        "annotated_patients": len({case.patient for case in drawn}),
        "excluded": reasons,
        "missing": {},
        "altered": {},
    }


def development(loaded: LoadedSchema, folds: Sequence[Fold]) -> tuple[str, ...]:
    """Patients whom final models are fitted to: all with annotations; before a time or hold-out split, the training
    patients."""
    if isinstance(loaded.schema.validation.split, (Holdout, TimeSplit)):
        return folds[0].train
    return tuple(dict.fromkeys(name for fold in folds for name in (*fold.train, *fold.test)))
