"""The HTML calculator in a real browser: the library's numbers, keyboard, units, hostile labels."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nomogram_models import birthwt, interaction_model, random_nomogram, result, table, wald_birthwt

from osml.nomogram import (
    Interval,
    LogisticOutcome,
    Nomogram,
    Predictor,
    Unit,
    build,
    calculator,
    cox_outcome,
    from_coefficients,
    synthetic_cases,
)
from osml.stats.cox import fit_cox
from osml.stats.terms import Linear, LinearModel

CHROMIUM = Path("/usr/bin/chromium")
pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="no chromium: apt-get install chromium"),
    pytest.mark.skipif(importlib.util.find_spec("playwright") is None, reason="no playwright: pip install playwright"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        made = p.chromium.launch(
            executable_path=str(CHROMIUM), args=["--headless", "--no-sandbox", "--disable-gpu"], headless=True
        )
        yield made
        made.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1100, "height": 1300}, offline=True)
    made = context.new_page()
    problems: list[str] = []
    made.on("pageerror", lambda error: problems.append(str(error)))
    made.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    made.on("request", lambda request: problems.append(request.url) if request.url[:5] in ("http:", "https") else None)
    yield made
    context.close()
    assert problems == []


def show(page: Any, n: Nomogram, folder: Path) -> None:
    path = folder / "calculator.html"
    path.write_text(calculator(n), encoding="utf-8")
    page.goto(path.as_uri())


def enter(page: Any, n: Nomogram, values: dict[str, float]) -> dict[str, Any]:
    for i, p in enumerate(n.predictors):
        if p.kind == "category":
            page.select_option(f"#input-{i}", str(int(values[p.name])))
        else:
            page.fill(f"#input-{i}", repr(float(values[p.name])))
    data = page.evaluate("({...document.getElementById('result').dataset})")
    return {key: json.loads(text) for key, text in data.items()}


def cox_with_interval() -> Nomogram:
    rows = table("lung").iloc[np.asarray(result("b2_cph_lung")["rows_used"]) - 1]
    X = rows[["age", "ph.ecog"]].to_numpy(float)
    fit = fit_cox(X, rows["time"].to_numpy(float), (rows["status"] == 2).to_numpy())
    model = LinearModel((Linear("age"), Linear("ecog")), fit.coef, float(-fit.means @ fit.coef), fit.covariance)
    predictors = [Predictor("age", low=40, high=80), Predictor("ecog", low=0, high=3, decimals=0)]
    outcome = cox_outcome(fit, "death", [182.0, 365.0], unit="days")
    return build(model, predictors, outcome, interval=Interval("wald"))


def with_refits() -> Nomogram:
    n, model = random_nomogram(5)
    rng = np.random.default_rng(0)
    centre = np.concatenate([[model.intercept], model.coef])
    refits = centre * (1 + 0.1 * rng.normal(size=(80, len(centre))))
    return build(model, n.predictors, n.outcome, interval=Interval("instability", refits=refits))


@pytest.mark.parametrize(
    "make",
    [
        wald_birthwt,
        cox_with_interval,
        with_refits,
        lambda: random_nomogram(11, cox=True)[0],
        lambda: build(*interaction_model(), LogisticOutcome("relapse")),
    ],
)
def test_ten_patients_equal_the_library(page: Any, tmp_path: Path, make: Any) -> None:
    n = make()
    show(page, n, tmp_path)
    cases = synthetic_cases(n, 10, seed=3)
    exact, bounds = np.reshape(n.probability(cases), (10, -1)), n.bounds(cases)
    for i in range(10):
        found = enter(page, n, {name: x[i] for name, x in cases.items()})
        np.testing.assert_allclose(found["probability"], exact[i], rtol=0, atol=1e-9)
        np.testing.assert_allclose(found["total"], n.total({k: x[i] for k, x in cases.items()})[0], atol=1e-7)
        if bounds is None:
            assert found["bounds"] == [None] * exact.shape[1]
        else:
            expected = np.column_stack([np.reshape(b, (10, -1))[i] for b in bounds])
            np.testing.assert_allclose(found["bounds"], expected, rtol=0, atol=1e-9)


def test_nothing_is_shown_until_everything_is_entered(page: Any, tmp_path: Path) -> None:
    n = birthwt()
    show(page, n, tmp_path)
    assert page.inner_text("#result") == "Still to enter: age, lwt, race, smoke, ptd, ht, ui."
    assert [page.input_value(f"#input-{i}") for i in range(7)] == [""] * 7
    found = enter(page, n, {"age": 25, "lwt": 110, "race": 1, "smoke": 1, "ptd": 0, "ht": 0, "ui": 0})
    assert found["probability"][0] == pytest.approx(0.4949, abs=1e-3)
    assert "49.5 %" in page.inner_text("#result")
    assert "no interval available" in page.inner_text("#result")
    assert page.locator("#live path").count() == 9
    page.fill("#input-0", "")
    assert page.inner_text("#result") == "Still to enter: age."
    assert page.locator("#live").count() == 0
    page.fill("#input-0", "70")
    assert "extrapolated" in page.inner_text("#input-0-problem")
    page.click("button[type=reset]")
    page.wait_for_function("document.getElementById('result').innerText.startsWith('Still to enter: age, lwt')")


def test_units_convert_and_not_known_uses_its_value(page: Any, tmp_path: Path) -> None:
    p = Predictor("ldh", low=100, high=700, unit="U/l", units=(Unit("µkat/l", 1 / 60),), unknown=250.0)
    n = from_coefficients({"Intercept": -2.0, "log(ldh)": 0.4}, [p], LogisticOutcome("relapse"))
    show(page, n, tmp_path)
    found = enter(page, n, {"ldh": 420.0})
    page.select_option("#input-0-unit", "1")
    assert page.input_value("#input-0") == "7"
    same = json.loads(page.get_attribute("#result", "data-probability"))
    np.testing.assert_allclose(same, found["probability"], atol=1e-12)
    page.fill("#input-0", "-1")
    assert "above 0" in page.inner_text("#input-0-problem")
    assert page.get_attribute("#result", "data-probability") is None
    page.check("#input-0-unknown")
    unknown = json.loads(page.get_attribute("#result", "data-probability"))
    np.testing.assert_allclose(unknown, n.probability({"ldh": float("nan")}), atol=1e-12)


def test_the_keyboard_reaches_every_input_and_each_has_a_name(page: Any, tmp_path: Path) -> None:
    n = birthwt()
    show(page, n, tmp_path)
    seen = []
    for _ in range(8):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id || document.activeElement.type"))
    assert seen == [f"input-{i}" for i in range(7)] + ["reset"]
    names = page.evaluate(
        "[...document.querySelectorAll('#inputs input, #inputs select')].map(e => e.labels[0].innerText)"
    )
    assert names == [p.title for p in n.predictors]
    assert page.get_attribute("#result", "aria-live") == "polite"


def test_markup_in_labels_is_shown_as_text(page: Any, tmp_path: Path) -> None:
    label = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    predictors = [
        Predictor("x", low=0, high=1, label=label),
        Predictor("g", "category", levels=("a", "<b>b</b>"), label="</label><h1>big</h1>"),
    ]
    n = from_coefficients(
        {"Intercept": 0.0, "x": 1.0, "g=<b>b</b>": 1.0},
        predictors,
        LogisticOutcome("<i>e</i>"),
        metadata={"title": label},
    )
    show(page, n, tmp_path)
    enter(page, n, {"x": 0.5, "g": 1})
    assert page.title() == label
    assert page.inner_text("label[for=input-0]") == label
    assert page.locator("h1").count() == 1
    assert page.locator("img, b, i").count() == 0
    assert "<i>e</i>" in page.inner_text("#result")
