"""Before anything is fitted: schema, cohort, findings, and how they are told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from osml.codes import BY_CODE, Finding
from osml.cohort.build import BuiltCohort, build_cohort, read_cohort
from osml.cohort.checks import run_checks
from osml.cohort.cohort import ClassOutcome
from osml.errors import CheckError
from osml.files import write_json
from osml.schema.load import LoadedSchema, load_schema
from osml.schema.words import missing_words

if TYPE_CHECKING:
    from osml.study.planning.command import Followed

Say = Callable[[str], None]


@dataclass(frozen=True)
class PlanChoice:
    """Which plan a schema with `predictors: auto` is to follow: a file, or what a preset and a limit give."""

    file: Path | None = None
    preset: str | None = None
    limit: str | None = None


def prepare(path: str | Path, overrides: Sequence[str] = ()) -> tuple[LoadedSchema, BuiltCohort, list[Finding]]:
    """Schema, cohort and all findings, without fitting: what `check` reports and `fit` begins with."""
    return prepare_planned(path, overrides, PlanChoice())[:3]


def prepare_planned(
    path: str | Path, overrides: Sequence[str], choice: PlanChoice, say: Say = lambda _: None
) -> tuple[LoadedSchema, BuiltCohort, list[Finding], Followed | None]:
    """As `prepare`, with the plan that gave the predictors, of a schema with `predictors: auto`."""
    loaded = load_schema(path, overrides)
    plan = None
    if loaded.auto or choice.file is not None or choice.preset is not None:
        from osml.study.planning.command import followed  # statistics, which a listed schema does not need yet

        plan = followed(loaded, overrides, plan=choice.file, preset=choice.preset, limit=choice.limit)
        if plan is not None:
            loaded = load_schema(path, overrides, plan.plan.document)
    if loaded.schema.radiomics():
        from osml.features import check_settings

        check_settings(loaded)
    if loaded.schema.scores():
        from osml.study.slides.scores import with_scores  # torch

        loaded, table = with_scores(loaded, say)
        built = build_cohort(loaded, table)
    else:
        built = read_cohort(loaded)
    return loaded, built, all_findings(loaded, built), plan


def all_findings(loaded: LoadedSchema, built: BuiltCohort) -> list[Finding]:
    """Every coded check of a cohort."""
    from osml.study.model_checks import model_checks  # scipy: only once the table is known to be readable

    return run_checks(loaded.schema, built) + model_checks(loaded.schema, built)


def refusals(loaded: LoadedSchema, findings: Sequence[Finding]) -> list[Finding]:
    """Findings that stop `fit`: of severity `refuse` and not accepted with a reason."""
    accepted = loaded.schema.checks.accept
    return [f for f in findings if BY_CODE[f.code].severity == "refuse" and f.code not in accepted]


def refuse(stopped: Sequence[Finding]) -> CheckError:
    """The error for findings that stop a study."""
    lines = []
    for f in stopped:
        code = BY_CODE[f.code]
        lines.append(f"{f.code} {code.title}: {f.subject + ': ' if f.subject else ''}{f.evidence}")
        lines.append(f"    {code.why} {code.fix}")
    codes = sorted({f.code for f in stopped})
    lines.append(
        f'To go on regardless: `checks: {{accept: {{{codes[0]}: "reason"}}}}`; the reason is printed with every result.'
    )
    return CheckError(
        f"{len(stopped)} check{'s refuse' if len(stopped) > 1 else ' refuses'} this study", do="\n  ".join(lines)
    )


def describe_split(loaded: LoadedSchema) -> str:
    """The outer split in words."""
    split, seed = loaded.schema.validation.split, loaded.schema.validation.seed
    if split.kind == "kfold":
        times = f", repeated {split.repeats} times" if split.repeats > 1 else ""
        return f"{split.folds} folds by patient, stratified{times}, seed {seed}"
    if split.kind == "leave_one_patient_out":
        return "one patient left out at a time"
    if split.kind == "leave_one_group_out":
        return f"one value of {split.column!r} left out at a time"
    if split.kind == "time":
        return f"tested on patients with {split.column!r} from {split.test_from} on"
    return f"tested on patients with {split.column!r} = {split.test!r}"


def introduce(loaded: LoadedSchema, built: BuiltCohort, findings: Sequence[Finding], say: Say) -> None:
    """One line each for schema and cohort, one for each finding."""
    schema, cohort = loaded.schema, built.cohort
    outcome = cohort.outcome
    assert outcome is not None
    counts = f"{len(schema.inputs)} inputs, {len(schema.predictors)} predictors"
    say(f"schema    ok: {schema.name}, {schema.target.kind} target, {counts}")
    if schema.study.synthetic:
        say(f"          SYNTHETIC: {schema.study.synthetic}")
    reasons: dict[str, int] = {}
    for e in cohort.exclusions:
        reasons[e.reason] = reasons.get(e.reason, 0) + 1
    lost = ", ".join(f"-{n} {reason}" for reason, n in reasons.items())
    n = len(cohort)
    groups = {name: int(units.sum()) for name, units in cohort.outcome_groups().items()}
    told = f"{next(iter(groups.values()))} events ({100 * next(iter(groups.values())) / n:.1f} %)"
    if isinstance(outcome, ClassOutcome):
        told = ", ".join(f"{k} {name}" for name, k in groups.items())
    whole = n + len(cohort.exclusions)
    say(f"cohort    {whole} → {n} {'rows' if cohort.per_row else 'patients'}{': ' + lost if lost else ''}; {told}")
    gaps = {name: int((x != x).sum()) for name, x in cohort.values.items()}
    told = ", ".join(f"{name} {k}" for name, k in gaps.items() if k)
    if told:
        say(f"missing   {told} ({missing_words(schema) if schema.missing == 'impute' else 'not used'})")
    for f in findings:
        say(finding_line(loaded, f))


def finding_line(loaded: LoadedSchema, finding: Finding) -> str:
    """One finding as a line of a terminal."""
    reason = loaded.schema.checks.accept.get(finding.code)
    state = f"accepted: {reason}" if reason else BY_CODE[finding.code].severity
    return f"check     {finding.code} {state}: {finding.subject + ': ' if finding.subject else ''}{finding.evidence}"


def write_findings(run: Path, loaded: LoadedSchema, findings: Sequence[Finding]) -> None:
    """cohort/checks.json: every finding with its evidence, meaning and, where accepted, the reason."""
    accepted = loaded.schema.checks.accept
    rows = []
    for finding in findings:
        code = BY_CODE[finding.code]
        rows.append(
            {
                "code": code.code,
                "severity": code.severity,
                "title": code.title,
                "subject": finding.subject,
                "evidence": finding.evidence,
                "why": code.why,
                "fix": code.fix,
                "accepted": accepted.get(code.code),
            }
        )
    write_json(run / "cohort" / "checks.json", rows)
