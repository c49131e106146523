"""`osml check`: everything that can be said before anything is fitted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from osml.codes import BY_CODE, CODES
from osml.study.fit import introduce, prepare, refusals


def report_checks(path: Path, overrides: Sequence[str], say: Callable[[str], None]) -> int:
    """Print cohort and findings; returns how many findings would stop `fit`."""
    loaded, built, findings = prepare(path, overrides)
    introduce(loaded, built, findings, say)
    for code in dict.fromkeys(f.code for f in findings):
        definition = BY_CODE[code]
        say(f"  {code} {definition.title}. {definition.why} {definition.fix}")
    stopped = refusals(loaded, findings)
    passed = len(CODES) - len({f.code for f in findings})
    say(f"checks    {len(findings)} findings, {len(stopped)} refuse; {passed} of {len(CODES)} codes found nothing")
    return len(stopped)
