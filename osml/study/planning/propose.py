"""Which candidates a study gets: by its inputs, its sample size and the machine; never by its outcomes' values.

The outcome is looked at for counts only (patients, events, classes), so a plan can be written and published before
anything is fitted. More parameters than the sample carries are not tried: the tier caps complexity, Riley's criteria
are computed for every regression, and what is left out is listed with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

import osml
from osml.codes import BY_CODE
from osml.cohort.build import BuiltCohort, read_cohort
from osml.cohort.cohort import ClassOutcome, Cohort
from osml.cohort.splits import development_patients, make_folds, patient_classes
from osml.errors import NotEstimableError, SchemaError
from osml.evaluation.sample_size import Adequacy
from osml.schema.load import LoadedSchema, load_schema
from osml.schema.model import FileInput, LabInput, Schema
from osml.schema.networks import NetworkPredictor
from osml.schema.targets import HierarchyTarget, SurvivalTarget
from osml.study.model_checks import model_checks, sample_size
from osml.study.planning.candidates import Draft, Kit, fill
from osml.study.planning.plan import Plan, Preset, content_hash, make_plan

# Patients: below SMALL frozen encoders and penalised models only; from LARGE on everything.
SMALL, LARGE = 100, 500
LIMITS: dict[Preset, float] = {"quick": 600.0, "standard": 3600.0, "thorough": 6 * 3600.0}


def tier(patients: int) -> str:
    """Size class of a study.

    >>> tier(99), tier(100), tier(500)
    ('small', 'medium', 'large')
    """
    return "small" if patients < SMALL else "medium" if patients < LARGE else "large"


def whole_cohort(loaded: LoadedSchema) -> BuiltCohort:
    """The cohort that candidates will share: exclusions as if every usable input were used."""
    usable, _ = usable_inputs(loaded.schema)
    every = NetworkPredictor(kind="network", inputs=tuple(usable))
    return read_cohort(replace(loaded, schema=loaded.schema.model_copy(update={"predictors": {"all": every}})))


def usable_inputs(schema: Schema) -> tuple[list[str], list[str]]:
    """Inputs known at the time of prediction, and those that are not yet."""
    order = list(schema.times)
    moment = order.index(schema.time_of_prediction)
    early = [name for name in schema.inputs if order.index(schema.available(name)) <= moment]
    return early, [name for name in schema.inputs if name not in early]


def propose(
    loaded: LoadedSchema,
    *,
    preset: Preset,
    limit: float | None,
    machine: Mapping[str, Any],
    overrides: tuple[str, ...] = (),
    name: str = "plan.yaml",
) -> Plan:
    """The plan of a study with `predictors: auto`.

    Parameters
    ----------
    loaded : the schema, its predictors not yet planned
    preset : quick, standard or thorough
    limit : seconds for the whole of `osml fit`, or None
    machine : of `osml.study.planning.machine`
    overrides : the --set texts the schema was loaded with

    Raises
    ------
    SchemaError
        No candidate is possible; says why for each.
    """
    schema = loaded.schema
    built = whole_cohort(loaded)
    cohort = built.cohort
    folds = make_folds(cohort, schema.validation.split, schema.validation.seed)
    developed = cohort.of(development_patients(cohort, folds, schema.validation.split))
    counts = _counts(schema, developed)
    draft = Draft()
    early, late = usable_inputs(schema)
    for item in late:
        draft.leave(f"input {item}", f"known at {schema.available(item)}, after {schema.time_of_prediction}")
    fill(draft, _kit(schema, early, developed, preset, limit, machine, counts["tier"]))
    if not draft.predictors:
        raise _nothing(loaded, draft)
    data = _data(loaded, built, draft, preset, limit, machine, counts)
    _govern(loaded, overrides, built, developed, draft, data)
    if not draft.predictors:
        raise _nothing(loaded, draft)
    final = _data(loaded, built, draft, preset, limit, machine, counts) | {"governor": data["governor"]}
    return make_plan(final, name)


def _nothing(loaded: LoadedSchema, draft: Draft) -> SchemaError:
    reasons = "\n  ".join(f"{row['what']}: {row['why']}" for row in draft.left_out)
    return SchemaError(f"{loaded.where('predictors')}: no candidate is possible", do=reasons)


def _counts(schema: Schema, cohort: Cohort) -> dict[str, Any]:
    patients = len(cohort.patient_ids)
    found: dict[str, Any] = {"patients": patients, "rows": len(cohort)}
    if isinstance(cohort.outcome, ClassOutcome):
        found["outcomes"] = {name: int(units.sum()) for name, units in cohort.outcome_groups().items()}
    else:
        found["events"] = int(patient_classes(cohort).sum())
    return found | {"tier": tier(patients)}


def _kit(
    schema: Schema,
    early: list[str],
    cohort: Cohort,
    preset: Preset,
    limit: float | None,
    machine: Mapping[str, Any],
    size: str,
) -> Kit:
    target = schema.target
    values = [name for name in early if name in schema.values()]
    # Labs are skewed to the right and positive; whether all are is a fact of the input, not of the outcome.
    positive = [
        name for name in values if isinstance(schema.inputs[name], LabInput) and not np.any(cohort.values[name] <= 0)
    ]
    inner = schema.validation.inner
    return Kit(
        target="survival" if isinstance(target, SurvivalTarget) else "binary" if target.kind == "binary" else "classes",
        hierarchy=isinstance(target, HierarchyTarget),
        values=values,
        numbers=[name for name in values if schema.inputs[name].kind in ("number", "lab")],
        logged=positive,
        radiomics={name: _region(schema, name) for name in early if name in schema.radiomics()},
        images=[name for name in early if isinstance(schema.inputs[name], FileInput)],
        inner=inner != "none",
        preset=preset,
        limit=limit,
        machine=dict(machine),
        tier=size,
        patients=len(cohort.patient_ids),
    )  # fmt: skip


def _region(schema: Schema, name: str) -> str:
    """The region that is fixed beforehand where choosing one would cost too much: the lesion itself, else the first."""
    regions = schema.radiomics()[name].regions
    if regions == "mri-rings":
        return "tumour"
    names = [str(region) for region in regions]
    return "tumour" if "tumour" in names or not names else names[0]


def _data(
    loaded: LoadedSchema,
    built: BuiltCohort,
    draft: Draft,
    preset: Preset,
    limit: float | None,
    machine: Mapping[str, Any],
    counts: Mapping[str, Any],
) -> dict[str, Any]:
    names = list(draft.predictors)
    report: dict[str, Any] = {}
    if len(names) > 1:
        report = {"select": True, "adds": draft.adds} if draft.adds else {"select": True}
    return {
        "plan": 1,
        "osml": osml.__version__,
        "study": loaded.schema.name,
        "schema_sha256": loaded.digest(),
        "table_sha256": built.table.sha256,
        "preset": preset,
        "time_limit": limit,
        "cohort": dict(counts),
        "machine": dict(machine),
        "predictors": draft.predictors,
        "why": draft.why,
        "report": report,
        "left_out": draft.left_out,
        "governor": [],
        "proposed": "",
    }


def _govern(
    loaded: LoadedSchema,
    overrides: tuple[str, ...],
    built: BuiltCohort,
    developed: Cohort,
    draft: Draft,
    data: dict[str, Any],
) -> None:
    """Leave out what a check would refuse, and say for every regression what Riley's criteria ask for."""
    planned = load_schema(loaded.path, overrides, make_plan(data, "plan.yaml").document)
    accepted = planned.schema.checks.accept
    for finding in model_checks(planned.schema, built):
        refused = BY_CODE[finding.code].severity == "refuse" and finding.code not in accepted
        if refused and finding.subject in draft.predictors:
            draft.drop(finding.subject, f"{finding.code}: {finding.evidence}")
    rows = []
    for name in (n for n in planned.schema.nomograms() if n in draft.predictors):
        try:
            rows.append(_need(name, sample_size(planned.schema, developed, name)))
        except NotEstimableError as error:
            rows.append({"predictor": name, "parameters": 0, "patients": len(developed.patient_ids), "events": 0,
                         "needed": None, "shrinkage": None, "verdict": error.what})  # fmt: skip
    data["governor"] = rows


def _need(name: str, judged: Adequacy) -> dict[str, Any]:
    enough = not judged.exploratory
    verdict = "enough patients" if enough else "fewer patients than asked for: exploratory, coefficients are shrunken"
    return {
        "predictor": name,
        "parameters": judged.required.parameters,
        "patients": judged.n,
        "events": judged.events,
        "needed": judged.required.n,
        "shrinkage": round(judged.expected_shrinkage, 3),
        "verdict": verdict,
    }


def changes(plan: Plan, proposed: Plan) -> list[str]:
    """How a plan differs from what osml proposes under the same preset, limit and machine, in words."""
    mine, theirs = plan.file.predictors, proposed.file.predictors
    out = [f"{name!r} was added" for name in mine if name not in theirs]
    out += [f"{name!r} was removed" for name in theirs if name not in mine]
    out += [f"{name!r} was changed" for name in mine if name in theirs and _same(mine[name], theirs[name])]
    if list(mine) != list(theirs) and not out:
        out.append("the order of the candidates was changed")
    if _same(plan.file.report, proposed.file.report):
        out.append("what is compared was changed")
    return out


def _same(one: Any, other: Any) -> bool:
    """Whether two blocks differ in what they decide."""
    empty: dict[str, Any] = {"report": {}, "preset": "", "time_limit": None, "schema_sha256": ""}
    return content_hash(empty | {"predictors": one}) != content_hash(empty | {"predictors": other})
