"""Search of settings on inner folds: Optuna proposes, the held-out loss decides, and every trial is counted.

The first trial is what the schema states, so on the inner folds a search is never worse than none. What trial k tries
follows from the seed and the trials before it, which a file holds: a search that was killed and goes on finds what an
undisturbed one would have found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from osml.errors import InvalidInputError, NotEstimableError, missing_extra
from osml.files import read_json, write_json

FORMAT = 1
# Random trials before the sampler (TPE) learns from those that are finished, and before any is pruned.
STARTUP = 5
State = Literal["finished", "pruned", "failed"]
Values = Mapping[str, float | int]
Report = Callable[[float], None]


@dataclass(frozen=True)
class Span:
    """Where a setting is looked for, ends included; widened where the schema's own value lies outside.

    log : evenly on the logarithm
    whole : whole numbers
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def holding(self, value: float | int) -> Span:
        """The same, wide enough for a value."""
        return Span(min(self.low, value), max(self.high, value), self.log, self.whole)


@dataclass(frozen=True)
class Trial:
    """One setting that was tried.

    loss : mean over all inner folds; of a pruned one over those that were looked at; None of a failed one
    steps : mean loss after each inner fold
    reason : why it failed
    """

    values: Values
    state: State
    loss: float | None
    steps: tuple[float, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Found:
    """A finished search; the first trial is the setting of the schema.

    best : position of the trial with the lowest loss, the first of equals; None where no trial was finished
    """

    trials: tuple[Trial, ...]
    best: int | None

    @property
    def values(self) -> Values:
        """The chosen setting; that of the schema where no trial was finished."""
        return self.trials[self.best or 0].values

    def record(self) -> dict[str, Any]:
        """For search.json: counts, the choice, and every trial."""
        states = [trial.state for trial in self.trials]
        return {
            "trials": len(states),
            **{state: states.count(state) for state in ("finished", "pruned", "failed")},
            "best": self.best,
            "values": dict(self.values),
            "loss": None if self.best is None else self.trials[self.best].loss,
            "default_loss": self.trials[0].loss,
            "table": [asdict(trial) | {"values": dict(trial.values), "steps": list(trial.steps)}
                      for trial in self.trials],
        }  # fmt: skip


class PrunedError(Exception):
    """Raised inside an evaluation that is not worth finishing."""


def search(
    spans: Mapping[str, Span],
    default: Values,
    evaluate: Callable[[Values, Report], float],
    *,
    trials: int,
    seed: int,
    file: Path | None = None,
) -> Found:
    """Try settings and keep the best.

    Parameters
    ----------
    spans, default : of each setting
    evaluate : from a setting to its loss over all inner folds. It reports the mean loss after each fold but the last;
        a setting whose report is above the median of those of finished trials at the same fold is pruned. What raises
        NotEstimableError or InvalidInputError is a failed trial
    trials : with the first, the schema's own
    file : where trials are kept; an unfinished search goes on from there

    Raises
    ------
    MissingExtraError
        Optuna is not installed.
    """
    optuna = _optuna()
    wide = {name: span.holding(default[name]) for name, span in spans.items()}
    head = {
        "format": FORMAT,
        "seed": seed,
        "spans": {name: asdict(span) for name, span in wide.items()},
        "default": dict(default),
    }
    done = _stored(file, head)
    while len(done) < trials:
        values = dict(default) if not done else _proposed(optuna, wide, done, seed)
        done.append(_tried(evaluate, values, done))
        if file is not None:
            write_json(file, {**head, "trials": [asdict(trial) for trial in done]})
    done = done[:trials]
    losses = [(trial.loss, k) for k, trial in enumerate(done) if trial.state == "finished" and trial.loss is not None]
    return Found(tuple(done), min(losses)[1] if losses else None)


def _tried(evaluate: Callable[[Values, Report], float], values: Values, done: Sequence[Trial]) -> Trial:
    steps: list[float] = []

    def report(loss: float) -> None:
        steps.append(loss)
        before = [t.steps[len(steps) - 1] for t in done if t.state == "finished" and len(t.steps) >= len(steps)]
        if len(before) >= STARTUP and loss > float(np.median(before)):
            raise PrunedError

    try:
        loss = evaluate(values, report)
    except PrunedError:
        return Trial(values, "pruned", steps[-1], tuple(steps))
    except (NotEstimableError, InvalidInputError) as error:
        return Trial(values, "failed", None, tuple(steps), error.what)
    if not np.isfinite(loss):
        return Trial(values, "failed", None, tuple(steps), "the loss is not finite")
    return Trial(values, "finished", float(loss), tuple(steps))


def _proposed(optuna: Any, spans: Mapping[str, Span], done: Sequence[Trial], seed: int) -> dict[str, float | int]:
    """What the sampler tries next, from its seed and the trials before alone: it is made anew for each."""
    number = int(np.random.SeedSequence([seed, len(done)]).generate_state(1)[0])
    sampler = optuna.samplers.TPESampler(seed=number, n_startup_trials=STARTUP)
    study = optuna.create_study(direction="minimize", sampler=sampler)
    where = {name: _distribution(optuna, span) for name, span in spans.items()}
    states = optuna.trial.TrialState
    for trial in done:
        if trial.state == "failed":
            continue
        study.add_trial(
            optuna.trial.create_trial(
                params=dict(trial.values),
                distributions=where,
                value=trial.loss,
                state=states.COMPLETE if trial.state == "finished" else states.PRUNED,
                intermediate_values=dict(enumerate(trial.steps)),
            )
        )
    return dict(study.ask(where).params)


def _distribution(optuna: Any, span: Span) -> Any:
    if span.whole:
        return optuna.distributions.IntDistribution(int(span.low), int(span.high), log=span.log)
    return optuna.distributions.FloatDistribution(span.low, span.high, log=span.log)


def _stored(file: Path | None, head: Mapping[str, Any]) -> list[Trial]:
    """Trials of an unfinished search; none where the file is of another one."""
    if file is None or not file.is_file():
        return []
    data = read_json(file)
    if any(data.get(key) != value for key, value in head.items()):
        return []
    return [Trial(**{**trial, "steps": tuple(trial["steps"])}) for trial in data["trials"]]


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise missing_extra("optuna", "automl", "`search` of a predictor's settings") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
