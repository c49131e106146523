"""What failed in a run, with its traceback: failures.csv. One candidate that fails never ends a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from osml.engine import Outcome
from osml.files import write_csv

HEADER = ("predictor", "stage", "kind", "message", "traceback")


@dataclass(frozen=True)
class Failure:
    """One predictor at one stage: the name of a fold, or `final` for the fit on all development patients."""

    predictor: str
    stage: str
    kind: str
    message: str
    do: str
    traceback: str

    @classmethod
    def of(cls, predictor: str, stage: str, outcome: Outcome) -> Failure:
        """The failure of a task."""
        error = outcome.error
        message = (str(error) or type(error).__name__).splitlines()[0]
        return cls(predictor, stage, type(error).__name__, message, getattr(error, "do", ""), outcome.traceback)

    def record(self) -> dict[str, str]:
        """What metrics.json keeps of it."""
        return {"predictor": self.predictor, "stage": self.stage, "kind": self.kind, "message": self.message}


def write_failures(path: Path, failures: Iterable[Failure]) -> None:
    """failures.csv, one row per failed fold or final fit, tracebacks whole."""
    write_csv(path, HEADER, [(f.predictor, f.stage, f.kind, f.message, f.traceback) for f in failures])


def tell_failures(failures: Sequence[Failure], folds: int, say: Callable[[str], None]) -> None:
    """One line per predictor and kind of error, with what to do; failures.csv has them all."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for failure in failures:
        groups.setdefault((failure.predictor, failure.kind, failure.do), []).append(failure.message)
    for (predictor, _, do), reasons in groups.items():
        say(f"failed    {predictor}: {len(reasons)} of {folds} folds, e.g. {reasons[0]}")
        if do:
            say(f"          {do}")
