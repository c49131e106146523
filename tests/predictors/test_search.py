"""Search of settings: the schema's own first, every trial counted, and the same after an interruption."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from boosting_designs import boosting_schema, cohort_of, files, fitted
from network_designs import network_cohort, network_schema

from osml.errors import MissingExtraError, NotEstimableError
from osml.predictors.contract import Design
from osml.predictors.network import FittedNetwork
from osml.predictors.registry import Fitting, fit_predictor
from osml.predictors.search import STARTUP, Found, Report, Span, Values, search

SPANS = {"a": Span(0.01, 1.0, log=True), "b": Span(1, 9, whole=True)}
DEFAULT = {"a": 0.1, "b": 4}


def bowl(values: Values, report: Report) -> float:
    """Lowest at a = 0.3, b = 2; the mean over three folds of a loss that differs between them by a constant."""
    loss = (np.log(values["a"]) - np.log(0.3)) ** 2 + 0.1 * (values["b"] - 2) ** 2
    for fold in range(2):
        report(loss + fold)
    return loss + 1.0


def found(trials: int = 20, seed: int = 1, **kwargs: Any) -> Found:
    return search(SPANS, DEFAULT, kwargs.pop("evaluate", bowl), trials=trials, seed=seed, **kwargs)


def test_the_first_trial_is_the_default_and_the_best_is_never_worse() -> None:
    one = found()
    assert len(one.trials) == 20
    assert dict(one.trials[0].values) == DEFAULT
    assert one.best is not None
    losses = [trial.loss for trial in one.trials if trial.state == "finished"]
    assert one.trials[one.best].loss == min(losses) < one.trials[0].loss  # type: ignore[type-var]
    for trial in one.trials:
        assert 0.01 <= trial.values["a"] <= 1.0
        assert trial.values["b"] in range(1, 10)


def test_the_sampler_learns() -> None:
    """After the random start, proposals lie nearer to the optimum than random ones."""
    one = found(40)

    def away(trials: Any) -> float:
        return float(np.mean([abs(np.log(t.values["a"] / 0.3)) for t in trials]))

    assert away(one.trials[25:]) < away(one.trials[1 : STARTUP + 1])


def test_where_the_default_is_best_it_stays() -> None:
    one = found(evaluate=lambda values, report: 0.0 if dict(values) == DEFAULT else 1.0)
    assert one.best == 0
    assert dict(one.values) == DEFAULT


def test_of_equals_the_first_is_taken() -> None:
    assert found(evaluate=lambda values, report: 2.0).best == 0


def test_trials_are_counted() -> None:
    def sometimes(values: Values, report: Report) -> float:
        if values["b"] > 6:
            raise NotEstimableError("too many")
        return bowl(values, report)

    one = found(30, evaluate=sometimes)
    record = one.record()
    states = [trial.state for trial in one.trials]
    for state in ("finished", "pruned", "failed"):
        assert record[state] == states.count(state) > 0
    assert record["trials"] == 30
    assert {t.reason for t in one.trials if t.state == "failed"} == {"too many"}
    assert all(t.loss is None for t in one.trials if t.state == "failed")
    assert record["default_loss"] == pytest.approx(1 + (np.log(0.1) - np.log(0.3)) ** 2 + 0.4)
    json.dumps(record, allow_nan=False)


def test_pruned_are_those_above_the_median_of_finished_ones() -> None:
    """Recomputed from the table of trials."""
    one = found(40)
    for k, trial in enumerate(one.trials):
        before = [t for t in one.trials[:k] if t.state == "finished"]
        for fold, loss in enumerate(trial.steps):
            medians = [t.steps[fold] for t in before]
            above = len(before) >= STARTUP and loss > np.median(medians)
            assert above == (trial.state == "pruned" and fold == len(trial.steps) - 1)


def test_a_search_that_was_killed_finds_the_same(tmp_path: Path) -> None:
    """Also in the middle of a trial; what the file holds is not tried again."""
    whole = found(15)
    tried: list[Values] = []

    def killed(values: Values, report: Report) -> float:
        tried.append(dict(values))
        if len(tried) in (4, 9):
            report(0.0)
            raise KeyboardInterrupt
        return bowl(values, report)

    file = tmp_path / "search.json"
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            found(15, evaluate=killed, file=file)
    again = found(15, evaluate=killed, file=file)
    assert again == whole
    assert len(tried) == 15 + 2
    assert found(15, evaluate=lambda values, report: pytest.fail("tried again"), file=file) == whole


@pytest.mark.parametrize(
    "changes", [{"seed": 2}, {"default": {"a": 0.2, "b": 4}}, {"spans": {**SPANS, "b": Span(1, 8)}}]
)
def test_a_file_of_another_search_is_not_continued(tmp_path: Path, changes: dict[str, Any]) -> None:
    file = tmp_path / "search.json"
    usual: dict[str, Any] = {"spans": SPANS, "default": DEFAULT, "seed": 1}
    search(**usual, evaluate=bowl, trials=3, file=file)
    other = {**usual, **changes}
    assert search(**other, evaluate=bowl, trials=3, file=file) == search(**other, evaluate=bowl, trials=3)


def test_a_default_outside_its_range_widens_it() -> None:
    one = search(SPANS, {"a": 3.0, "b": 20}, bowl, trials=12, seed=1)
    assert dict(one.trials[0].values) == {"a": 3.0, "b": 20}
    assert Span(1, 9).holding(20) == Span(1, 20)
    assert Span(1, 9).holding(0.5) == Span(0.5, 9)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = builtins.__import__

    def gone(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "optuna":
            raise ImportError("No module named 'optuna'")
        return plain(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", gone)
    with pytest.raises(MissingExtraError, match=r"pip install 'osml\[automl\]'"):
        found()


def test_nothing_finished_leaves_the_default() -> None:
    def never(values: Values, report: Report) -> float:
        raise NotEstimableError("nothing varies")

    one = found(3, evaluate=never)
    assert one.best is None
    assert dict(one.values) == DEFAULT
    assert found(3, evaluate=lambda values, report: float("nan")).record()["failed"] == 3


def test_boosting_with_a_search(tmp_path: Path) -> None:
    """Interrupted after two trials and continued: the same bytes, the same trials."""
    schema = boosting_schema(search={"trials": 5})
    cohort = cohort_of(n=80)
    whole = fitted(schema, cohort)
    record = whole.record()["search"]
    assert record["trials"] == 5
    assert record["values"] == record["table"][record["best"]]["values"]
    assert record["loss"] <= record["default_loss"] == pytest.approx(record["table"][0]["loss"])
    assert fitted(boosting_schema(), cohort).notes["inner"]["loss"] == pytest.approx(record["default_loss"])
    work = tmp_path / "work"
    fitted(schema, cohort, work=work)
    stored = json.loads((work / "search.json").read_text())
    (work / "search.json").write_text(json.dumps({**stored, "trials": stored["trials"][:2]}))
    again = fitted(schema, cohort, work=work)
    assert files(again, tmp_path / "a") == files(whole, tmp_path / "b")
    assert again.record() == whole.record()


def test_a_search_for_survival_follows_the_partial_likelihood() -> None:
    found = fitted(boosting_schema("survival", search={"trials": 2}), cohort_of("survival", 60))
    record = found.record()["search"]
    plain = fitted(boosting_schema("survival"), cohort_of("survival", 60)).notes["inner"]
    assert record["table"][0]["loss"] == pytest.approx(plain["loss"])
    assert record["loss"] == min(trial["loss"] for trial in record["table"])


def test_a_network_with_a_search(tmp_path: Path) -> None:
    """The chosen setting is the network's, and its loss is not above that of the schema's own."""
    schema = network_schema(inputs=["age", "marker", "stage"], search={"trials": 2}, train={"epochs": 3})
    cohort = network_cohort(network_schema(), 40)

    def fit() -> FittedNetwork:
        fitting = Fitting(schema, "net", Design(cohort), np.random.SeedSequence(4), work=tmp_path)
        network = fit_predictor(fitting)
        assert isinstance(network, FittedNetwork)
        return network

    network = fit()
    record = network.record()["search"]
    assert record["loss"] <= record["default_loss"]
    assert record["table"][0]["values"] == {"rate": 1e-3, "weight_decay": 1e-2, "dropout": 0.3, "head_dropout": 0.0}
    assert network.recipe.dropout == record["values"]["dropout"]
    assert network.recipe.head_dropout == record["values"]["head_dropout"]
    assert "search" not in network.to_dict()
    assert fit().record()["search"] == record
