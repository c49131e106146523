"""`osml check`: everything that can be said before anything is fitted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from osml.codes import BY_CODE, CODES
from osml.schema.load import load_schema
from osml.schema.slides import RegionTarget
from osml.study.images import add_features, missing_files
from osml.study.prepare import introduce, prepare, refusals

SHOWN = 5

if TYPE_CHECKING:
    from osml.study.leakage import PipelineCheck


def report_checks(path: Path, overrides: Sequence[str], say: Callable[[str], None]) -> int:
    """Print cohort and findings; returns how many findings would stop `fit`."""
    regions = load_schema(path, overrides)
    if isinstance(regions.schema.target, RegionTarget):
        from osml.study.slides.fit import missing_slides

        return missing_slides(regions, say)
    loaded, built, findings = prepare(path, overrides)
    introduce(loaded, built, findings, say)
    absent = missing_files(loaded, built.cohort)
    for unit, key, file in absent[:SHOWN]:
        say(f"image     {unit}: {key}: {file}: no such file")
    if len(absent) > SHOWN:
        say(f"image     … and {len(absent) - SHOWN} more files that do not exist; `fit` leaves these patients out")
    for code in dict.fromkeys(f.code for f in findings):
        definition = BY_CODE[code]
        say(f"  {code} {definition.title}. {definition.why} {definition.fix}")
    stopped = refusals(loaded, findings)
    passed = len(CODES) - len({f.code for f in findings})
    say(f"checks    {len(findings)} findings, {len(stopped)} refuse; {passed} of {len(CODES)} codes found nothing")
    return len(stopped)


def report_leakage(
    path: Path, overrides: Sequence[str], permutations: int, workers: int | None, say: Callable[[str], None]
) -> int:
    """Print the three parts of the leakage check; returns how many predictors did not pass."""
    from osml.study.leakage import check_leakage

    loaded, built, findings = prepare(path, overrides)
    introduce(loaded, built, findings, say)
    built = add_features(loaded, built, workers=workers, say=say).built
    say(f"leakage   {permutations} permutations of labels between patients; every step that sees labels is run again")
    report = check_leakage(loaded, built, permutations=permutations, workers=workers)
    bad = 0
    for name in loaded.schema.predictors:
        verdict = report.verdict(name)
        bad += verdict != "passed"
        say(f"{name}: {verdict}")
        for check in (c for c in report.checks if c.predictor == name):
            say(f"  {check.pipeline + (' (leaky twin)' if check.pipeline != 'study' else ''):<24}{_words(check)}")
    say("passed means: artefacts identical, canary inside 0.47–0.53, and every leaky twin caught in this run")
    return bad


def _words(check: PipelineCheck) -> str:
    if check.not_applicable:
        return f"not applicable: {check.not_applicable}"
    same = check.folds - len(check.changed)
    identity = f"artefacts identical in {same}/{check.folds} folds with test patients overwritten"
    canary = check.canary
    if canary is None:
        return f"{identity}; canary: no permutation could be judged"
    lost = f", {canary.failed} not estimable" if canary.failed else ""
    caught = (
        "; caught"
        if check.pipeline != "study" and check.caught
        else "; NOT caught"
        if check.pipeline != "study"
        else ""
    )
    return f"{identity}; canary {canary.mean:.3f} (90 % CI {canary.low:.3f}–{canary.high:.3f}{lost}){caught}"
