"""The documentation: its examples run, and it says neither more nor less than the code."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import re
import shlex
import types
import typing
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML
from typer.main import get_command

from osml.cli import app
from osml.codes import CODES
from osml.evaluation.contingency import fisher_exact
from osml.evaluation.delong import delong_test
from osml.evaluation.group_tests import mann_whitney
from osml.evaluation.survival_utility import net_benefit_at
from osml.schema.load import load_schema
from osml.schema.model import Schema
from osml.stats.cox import baseline_hazard, fit_cox, survival
from osml.stats.logistic import fit_logistic

ROOT = Path(__file__).resolve().parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [*DOCS, ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "examples").glob("*/README.md"))]
DATA = ROOT / "tests" / "reference" / "r" / "data"


def text_of(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def fences(text: str, language: str) -> Iterator[tuple[int, str]]:
    """(line, content) of every fenced block of a language."""
    for match in re.finditer(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL):
        yield text[: match.start()].count("\n") + 1, match.group(1)


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_examples_run(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    text = page.read_text(encoding="utf-8")
    examples = []
    for line, block in fences(text, "python"):
        for example in doctest.DocTestParser().get_examples(block):
            example.lineno += line
            examples.append(example)
    test = doctest.DocTest(examples, {}, page.name, str(page), 0, None)
    report: list[str] = []
    result = doctest.DocTestRunner(verbose=False).run(test, out=report.append)
    assert result.attempted == len(examples)
    assert result.failed == 0, "".join(report)


REQUIRED, OPTIONAL = "required", "optional"


def schema_keys() -> dict[tuple[str, str], Any]:
    """(heading, key) → default of every key of the schema, named as the headings of schema.md name blocks."""
    found: dict[tuple[str, str], Any] = {}

    def visit(annotation: Any, path: str) -> None:
        origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            block(annotation, path)
        elif origin is dict:
            visit(parts[1], f"{path}.NAME")
        elif origin is tuple and len(parts) == 2 and parts[1] is Ellipsis:
            visit(parts[0], f"{path}[]")
        elif origin in (typing.Annotated, typing.Union, types.UnionType, tuple):
            for part in parts:
                visit(part, path)

    def block(model: type[BaseModel], path: str) -> None:
        kind = model.model_fields.get("kind")
        name = path or "Top level"
        if kind is not None and len(kinds := typing.get_args(kind.annotation)) == 1:  # else it is a choice, not a block
            name = f"{path}, kind: {kinds[0]}"
        for key, field in model.model_fields.items():
            default = field.get_default(call_default_factory=True)
            if isinstance(default, BaseModel):
                default = default.model_dump(mode="json")
            if isinstance(default, tuple):
                default = list(default)
            found[name, key] = REQUIRED if field.is_required() else OPTIONAL if default is None else default
            visit(field.annotation, f"{path}.{key}".lstrip("."))

    visit(Schema, "")
    return found


def documented_keys() -> dict[tuple[str, str], Any]:
    """The same from the tables of schema.md."""
    found: dict[tuple[str, str], Any] = {}
    heading = ""
    for line in text_of("schema.md").splitlines():
        if line.startswith("## "):
            heading = line[3:].replace("`", "")
        row = re.fullmatch(r"\| `([^`]+)` \| (.+) \| ([^|]+) \|", line)
        if row:
            default = row.group(3).strip()
            if default.startswith("`"):
                default = YAML(typ="safe", pure=True).load(default.strip("`"))
            assert (heading, row.group(1)) not in found, f"{row.group(1)!r} stands twice under {heading!r}"
            found[heading, row.group(1)] = default
    return found


def test_every_key_is_described_and_no_other() -> None:
    assert set(documented_keys()) == set(schema_keys())


def test_defaults_are_those_of_the_schema() -> None:
    documented = documented_keys()
    assert len(documented) > 80
    assert {key: documented[key] for key in schema_keys()} == schema_keys()


def test_yaml_examples_load(tmp_path: Path) -> None:
    yaml = YAML(typ="safe", pure=True)
    blocks = [yaml.load(block) for _, block in fences(text_of("schema.md"), "yaml")]
    blocks += [yaml.load(block) for _, block in fences(text_of("checks.md"), "yaml")]
    whole, *fragments = blocks
    assert set(whole) > {"version", "inputs", "predictors"}
    assert len(fragments) >= 8
    for number, fragment in enumerate([whole, *fragments]):
        data = {**whole, **fragment}
        if "inputs" in fragment and "predictors" not in fragment:
            data["predictors"] = {"clinical": {"kind": "nomogram", "inputs": list(fragment["inputs"])}}
        if "target" in fragment and "decision" not in fragment:
            data.pop("decision")
        path = tmp_path / f"{number}.yaml"
        with path.open("w", encoding="utf-8") as stream:
            yaml.dump(data, stream)
        assert load_schema(path).schema.version == 1


def test_every_code_has_its_anchor() -> None:
    sections = re.split(r"^### ", text_of("checks.md"), flags=re.MULTILINE)[1:]
    assert [section.split("\n", 1)[0] for section in sections] == [code.code for code in CODES]
    for code, section in zip(CODES, sections, strict=True):
        words = " ".join(section.split())
        assert f"**{code.title[0].upper()}{code.title[1:]}** ({code.severity})." in words
        assert all(part in words for part in ("*Found by*", "*Why*", "*Fix*"))


# Checked arrays, Newton steps and risk sets: what the documented functions are made of.
INNER = {
    "osml.stats.inputs", "osml.stats.newton", "osml.stats.monotone", "osml.stats.cox_risk_sets", "osml.stats.terms",
    "osml.stats.tails",
    "osml.evaluation.inputs",
}  # fmt: skip


def signatures() -> list[str]:
    return [line for _, block in fences(text_of("statistics.md"), "text") for line in block.splitlines()]


def test_signatures_are_those_of_the_code() -> None:
    lines = signatures()
    assert len(lines) > 80
    for line in lines:
        name = line.split("(", 1)[0]
        module, function = name.rsplit(".", 1)
        own = inspect.signature(getattr(importlib.import_module(module), function))
        plain = own.replace(
            parameters=[p.replace(annotation=inspect.Parameter.empty) for p in own.parameters.values()],
            return_annotation=inspect.Signature.empty,
        )
        assert line == f"{name}{plain}"


def test_every_module_of_statistics_is_described() -> None:
    described = {line.split("(", 1)[0].rsplit(".", 1)[0] for line in signatures()}
    described |= {f"osml.stats.{name}" for name in ("logistic_batch", "cox_residuals")}  # named in the text
    for word in ("fit_logistic_batch", "robust_covariance"):
        assert word in text_of("statistics.md")
    modules = {
        f"osml.{package}.{path.stem}"
        for package in ("stats", "evaluation")
        for path in (ROOT / "osml" / package).glob("*.py")
        if path.stem != "__init__"
    }
    assert described == modules - INNER


def test_named_tests_and_files_exist() -> None:
    functions = {
        path: {
            node.name for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, ast.FunctionDef)
        }
        for path in sorted(set(re.findall(r"`((?:tests|benchmarks)/[\w/]+\.py)", text_of("statistics.md"))))
    }
    assert len(functions) > 30
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text_of("statistics.md"))
    assert len(named) > 12
    assert not [f"{path}::{name}" for path, name in named if name not in functions[path]]


def anchors(path: Path) -> set[str]:
    """Anchors of the headings of a page, as GitHub makes them."""
    out = set()
    for line in path.read_text(encoding="utf-8").splitlines():
        if re.match(r"#{1,6} ", line):
            words = line.lstrip("#").strip().lower()
            out.add(re.sub(r"[^\w\- ]", "", words).replace(" ", "-"))
    return out


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_resolve(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", [*PAGES, *sorted((ROOT / "docs").glob("*.R"))], ids=lambda p: str(p.relative_to(ROOT)))
def test_no_machine_is_named(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    if page.name == "deployment.md":  # places of a server that is made up
        text = re.sub(r"/(?:srv|var/lib|opt)/(?:osml|slides)\b|\b127\.0\.0\.1\b|\blocalhost\b", "", text)
        text = re.sub(r"https?://(?:[\w.]+\.example\.org|\$host|(?=:8501))", "", text)
    assert not re.findall(r"(?<![\w.\-/])/(?:work|tmp|root|home|mnt|srv|Users|opt|var)\b\S*", text)
    assert not re.findall(r"(?i)\b(?:index-url|find-links|pypi|pythonhosted|artifactory|nexus|jfrog|localhost)\b", text)
    assert not re.findall(r"\b\d{1,3}(?:\.\d{1,3}){3}\b", text)
    hosts = set(re.findall(r"https?://([^/\s)>\"']+)", text))
    assert hosts <= {"doi.org", "github.com", "cran.r-project.org", "creativecommons.org"}


def commands(text: str) -> Iterator[list[str]]:
    """Words after `osml` of every command that a page shows: in a code span, a shell fence or an indented block."""
    shown = re.findall(r"(?<!`)`(osml [^`]+)`(?!`)", text)
    shown += re.findall(r"^    (osml [^#\n]+)", text, flags=re.MULTILINE)
    for language in ("", "sh", "bash"):
        for _, block in fences(text, language):
            shown += re.findall(r"^(osml [^#\n]+)", block, flags=re.MULTILINE)
    for command in shown:
        yield shlex.split(" ".join(command.split()))[1:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_shown_exist(page: Path) -> None:
    group: Any = get_command(app)
    for words in commands(page.read_text(encoding="utf-8")):
        command, rest = group, list(words)
        while rest and hasattr(command, "commands"):
            if rest[0].startswith("-"):
                break
            assert rest[0] in command.commands, f"no command {' '.join(words)!r}"
            command = command.commands[rest.pop(0)]
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        given = [word.split("=", 1)[0] for word in rest if word.startswith("-")]
        assert set(given) <= known | {"--help"}, f"{' '.join(words)!r}: no such option"


def test_readme_shows_its_commands() -> None:
    shown = {words[0] for words in commands((ROOT / "README.md").read_text(encoding="utf-8"))}
    assert {"init", "check", "fit", "predict"} <= shown
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    asked = set(re.findall(r"\bmake ([a-z-]+) ", (ROOT / "README.md").read_text()))
    assert {"demo", "test"} <= asked & targets


def births() -> tuple[np.ndarray, np.ndarray]:
    table = pd.read_csv(DATA / "birthwt.csv")
    columns = [table.age, table.lwt, table.race == "black", table.race == "other"]
    columns += [table[name] == "yes" for name in ("smoke", "ptd", "ht", "ui")]
    return np.column_stack(columns).astype(float), table.low.to_numpy()


def sklearn_gap(**options: Any) -> float:
    """Largest difference of a probability of the birth weight model from maximum likelihood."""
    from sklearn.linear_model import LogisticRegression

    X, y = births()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "did not converge" is what is shown here
        p = LogisticRegression(**options).fit(X, y).predict_proba(X)[:, 1]
    return float(np.abs(p - fit_logistic(X, y).probability).max())


@pytest.mark.full
def test_scikit_learn_is_not_maximum_likelihood_unless_asked() -> None:
    assert sklearn_gap() == pytest.approx(0.14, abs=0.01)  # penalised
    assert sklearn_gap(C=np.inf) > 1e-3  # lbfgs stops early
    assert sklearn_gap(C=np.inf, solver="newton-cholesky", tol=1e-12) < 1e-12


@pytest.mark.full
def test_liblinear_penalises_the_intercept() -> None:
    from sklearn.linear_model import LogisticRegression

    X, y = births()
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    # With centred columns, a penalty that leaves the intercept alone keeps the mean probability at the event rate.
    for solver, penalised in (("liblinear", True), ("lbfgs", False)):
        p = LogisticRegression(C=0.01, solver=solver, tol=1e-10, max_iter=100_000).fit(Z, y).predict_proba(Z)[:, 1]
        assert (abs(p.mean() - y.mean()) > 0.03) == penalised


@pytest.mark.full
def test_lifelines_survival_is_interpolated_on_a_breslow_baseline() -> None:
    from lifelines import CoxPHFitter

    table = pd.read_csv(DATA / "lung.csv")[["time", "status", "age", "sex", "ph.ecog", "wt.loss"]].dropna()
    table = table.assign(event=table.status == 2).drop(columns="status")
    X = table[["age", "sex", "ph.ecog", "wt.loss"]].to_numpy(dtype=float)
    fit = fit_cox(X, table.time, table.event)
    peer = CoxPHFitter().fit(table, "time", "event")
    breslow = baseline_hazard(fit.lp, table.time, table.event, ties="breslow")
    times = breslow.times[[20, 60, 100]]
    at_events = peer.predict_survival_function(table, times=times).to_numpy().T
    steps = np.exp(-breslow.at(times) * np.exp(fit.lp)[:, None])
    np.testing.assert_allclose(at_events, steps, rtol=1e-4)
    assert np.abs(at_events - survival(fit, fit.lp, times)).max() > 1e-4
    gaps = np.diff(peer.baseline_survival_.index)
    left = peer.baseline_survival_.index[np.argmax(gaps)]
    middle = left + gaps.max() / 2
    ends = peer.predict_survival_function(table, times=[left, left + gaps.max()]).to_numpy()
    between = peer.predict_survival_function(table, times=[middle]).to_numpy()[0]
    np.testing.assert_allclose(between, ends.mean(axis=0), rtol=1e-9)
    assert np.abs(survival(fit, fit.lp, [middle]) - survival(fit, fit.lp, [left])).max() == 0


@pytest.mark.full
def test_phreg_uses_breslow_ties() -> None:
    from statsmodels.duration.hazard_regression import PHReg

    table = pd.read_csv(DATA / "lung.csv")[["time", "status", "age", "ph.ecog"]].dropna()
    X, event = table[["age", "ph.ecog"]].to_numpy(dtype=float), (table.status == 2).to_numpy()
    efron, breslow = (fit_cox(X, table.time, event, ties=ties).coef for ties in ("efron", "breslow"))
    theirs = PHReg(table.time, X, status=event).fit().params
    np.testing.assert_allclose(theirs, breslow, rtol=1e-8)
    assert np.abs(theirs - efron).max() > 1e-4
    np.testing.assert_allclose(PHReg(table.time, X, status=event, ties="efron").fit().params, efron, rtol=1e-8)


@pytest.mark.full
def test_scipy_fisher_is_a_monte_carlo() -> None:
    from scipy import stats

    table = [[3, 1, 2], [0, 4, 1], [2, 2, 5]]
    values = {float(stats.fisher_exact(table).pvalue) for _ in range(5)}
    assert len(values) > 1
    assert np.mean(list(values)) == pytest.approx(fisher_exact(table).p, abs=0.02)
    strong = [[37, 2], [20, 12], [3, 1], [8, 8], [4, 18]]
    assert fisher_exact(strong).p < 1e-6
    assert stats.fisher_exact(strong).pvalue == pytest.approx(1e-4)


@pytest.mark.full
def test_scipy_mann_whitney_leaves_the_exact_test_early() -> None:
    from scipy import stats

    x, y = np.arange(20.0) * 1.7 % 7.3, (np.arange(21.0) * 2.3 + 0.31) % 8.1
    ours = mann_whitney(x, y)
    assert ours.method == "exact"
    assert stats.mannwhitneyu(x, y, method="exact").pvalue == pytest.approx(ours.p, rel=1e-10)
    assert stats.mannwhitneyu(x, y).pvalue == pytest.approx(mann_whitney(x, y, exact=False).p, rel=1e-10)
    assert abs(stats.mannwhitneyu(x, y).pvalue - ours.p) > 1e-3


@pytest.mark.full
def test_dcurves_has_no_value_where_all_treated_had_the_event() -> None:
    from dcurves import dca

    table = pd.DataFrame({"t": [1, 2, 3, 4, 5, 6], "e": [1, 0, 1, 1, 0, 1], "p": [0.9, 0.3, 0.6, 0.2, 0.4, 0.1]})
    theirs = dca(data=table, outcome="e", modelnames=["p"], thresholds=[0.5], time=3.5, time_to_outcome_col="t")
    assert np.isnan(theirs[theirs.model == "p"].net_benefit.item())
    # Both treated patients had the event by then, so no harm is done: 2 true positives of 6.
    assert net_benefit_at(table.t, table.e, table.p, 3.5, [0.5]).model[0] == pytest.approx(2 / 6, rel=1e-12)


@pytest.mark.full
def test_mlstatkit_z_has_the_other_sign() -> None:
    from MLstatkit import Delong_test

    rng = np.random.default_rng(6)
    y = rng.integers(0, 2, 200)
    better, worse = y + rng.normal(size=200), y + 2 * rng.normal(size=200)
    assert delong_test(y, better, worse).z > 0
    assert Delong_test(y, better, worse)[0] == pytest.approx(-delong_test(y, better, worse).z, rel=1e-8)
