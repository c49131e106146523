"""Models and readers shared by the tests of osml.nomogram."""

from __future__ import annotations

import csv
import io
import json
import re
import xml.etree.ElementTree as ElementTree
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from osml.nomogram import (
    CoxOutcome,
    Interval,
    LogisticOutcome,
    Nomogram,
    Predictor,
    build,
    category_predictor,
    from_coefficients,
    number_predictor,
)
from osml.stats.terms import Category, Interaction, Linear, LinearModel, Log, Spline, Term, design_columns

ROOT = Path(__file__).parent.parent / "reference" / "r"
SVG = "{http://www.w3.org/2000/svg}"


@cache
def result(name: str) -> Any:
    return json.loads((ROOT / "out" / f"{name}.json").read_text(encoding="utf-8"))


@cache
def table(name: str) -> pd.DataFrame:
    return pd.read_csv(ROOT / "data" / f"{name}.csv")


def birthwt(**options: Any) -> Nomogram:
    """The rms model of MASS::birthwt with axes chosen from its data."""
    fit, data = result("a1_lrm_birthwt_rcs")["fit"], table("birthwt")
    predictors = []
    for name, levels in fit["design"]["parms"].items():
        if name in ("age", "lwt"):
            unit = {"age": "years", "lwt": "lb"}[name]
            predictors.append(number_predictor(name, data[name], unit=unit))
        else:
            codes = [levels.index(v) for v in data[name]]
            predictors.append(category_predictor(name, codes, levels, events=data.low))
    training = {p.name: data[p.name].to_numpy() for p in predictors}
    return from_coefficients(
        fit["coef"],
        predictors,
        LogisticOutcome("low birth weight"),
        knots={"lwt": fit["design"]["parms"]["lwt"]},
        covariance=fit["vcov"],
        training=training,
        **options,
    )


def birthwt_training() -> dict[str, np.ndarray]:
    data = table("birthwt")
    return {name: data[name].to_numpy() for name in ("age", "lwt", "race", "smoke", "ptd", "ht", "ui")}


def lung(show: str = "survival", **options: Any) -> Nomogram:
    """The rms Cox model of survival::lung."""
    d = result("b2_cph_lung")
    axes = d["nomogram"]["axes"]
    predictors = [
        Predictor(name, "category", levels=("male", "female"))
        if name == "sex"
        else Predictor(name, ticks=tuple(float(v) for v in axes[name]["values"]))
        for name in axes
    ]
    baseline = d["S0_at_lp0"]
    outcome = CoxOutcome("death", tuple(float(t) for t in baseline), tuple(baseline.values()), "days", show, **options)
    return from_coefficients(d["coef"], predictors, outcome, center=d["center"], extremes="ticks")


def random_nomogram(seed: int, *, cox: bool = False, k: int | None = None) -> tuple[Nomogram, LinearModel]:
    """A made-up model with every kind of term, and its nomogram."""
    rng = np.random.default_rng(seed)
    predictors: list[Predictor] = []
    terms: list[Term] = []
    for i in range(k if k is not None else int(rng.integers(2, 9))):
        name = f"x{i}"
        kind = rng.choice(["linear", "log", "rcs", "category"])
        if kind == "category":
            levels = tuple(f"level {chr(97 + j)}" * int(rng.integers(1, 4)) for j in range(int(rng.integers(2, 7))))
            counts = tuple(int(c) for c in rng.integers(5, 90, len(levels)))
            events = tuple(int(rng.integers(0, c)) for c in counts)
            predictors.append(Predictor(name, "category", levels=levels, level_counts=counts, level_events=events))
            terms.append(Category(name, levels))
        else:
            low = float(np.round(rng.uniform(1, 50), 1))
            high = low + float(np.round(rng.uniform(2, 300), 1))
            predictors.append(Predictor(name, low=low, high=high, log=kind == "log", unit="mg/l"))
            knots = tuple(np.quantile([low, high], [0.05, 0.35, 0.65, 0.95]).tolist())
            terms.append({"linear": Linear(name), "log": Log(name), "rcs": Spline(name, knots)}[kind])
    coef = np.concatenate([_effects(rng, t, p) for t, p in zip(terms, predictors, strict=True)])
    model = LinearModel(tuple(terms), coef, 0.0)
    middle = {p.name: np.array([sum(p.bounds) / 2 if p.kind == "number" else 0.0]) for p in predictors}
    model = LinearModel(tuple(terms), coef, float(-model.lp(middle)[0] - 0.7))
    outcome = CoxOutcome("death", (12.0, 60.0), (0.9, 0.55), "months") if cox else LogisticOutcome("relapse")
    return build(model, predictors, outcome), model


def _effects(rng: np.random.Generator, term: Term, p: Predictor) -> np.ndarray:
    span = 1.0 if p.kind == "category" else p.bounds[1] - p.bounds[0]
    size = np.log(p.bounds[1] / p.bounds[0]) if term.kind == "log" else span
    return rng.normal(0, 1.5, len(design_columns([term]))) / size


def interaction_model() -> tuple[LinearModel, list[Predictor]]:
    """Age by sex, with dose."""
    age, sex = Linear("age"), Category("sex", ("female", "male"))
    model = LinearModel((age, sex, Linear("dose"), Interaction(age, sex)), np.array([0.02, -1.5, 0.03, 0.04]), -3.0)
    predictors = [
        Predictor("age", low=20, high=80),
        Predictor("sex", "category", levels=("female", "male")),
        Predictor("dose", low=30, high=90),
    ]
    return model, predictors


def wald_birthwt() -> Nomogram:
    return birthwt(interval=Interval("wald"))


class SvgReader:
    """Reads a probability from tick coordinates and labels of an SVG, and from nothing else."""

    def __init__(self, text: str) -> None:
        self.axes: dict[str, list[dict[str, Any]]] = {}
        root = ElementTree.fromstring(text)
        for axis in root.iter(f"{SVG}g"):
            if axis.get("class") == "axis":
                self.axes[axis.get("data-axis", "")] = [
                    self._part(part) for part in axis.iter(f"{SVG}g") if part.get("class") == "axis-part"
                ]

    @staticmethod
    def _part(part: ElementTree.Element) -> dict[str, Any]:
        ticks = []
        for group in part.iter(f"{SVG}g"):
            if group.get("class") not in ("tick", "minor"):
                continue
            line = group.find(f"{SVG}line")
            assert line is not None
            label = " ".join(t.text or "" for t in group.findall(f"{SVG}text"))
            ticks.append((float(line.get("x1", "nan")), label, group.get("data-value", "")))
        return {"ticks": ticks, "low": part.get("data-low"), "high": part.get("data-high")}

    def points(self, axis: str, value: float | str) -> float:
        """Points of a value: straight up to the ruler."""
        return self._scale("points", self._position(axis, value))

    def _position(self, axis: str, value: float | str) -> float:
        for part in self.axes[axis]:
            if isinstance(value, str):
                for x, label, _ in part["ticks"]:
                    if f" {value} " in f" {label} ":
                        return x
                continue
            pairs = sorted((float(v), x) for x, _, v in part["ticks"])
            if pairs and pairs[0][0] <= value <= pairs[-1][0]:
                return float(np.interp(value, [v for v, _ in pairs], [x for _, x in pairs]))
        raise AssertionError(f"{value!r} is not on axis {axis}")

    def _scale(self, axis: str, x: float, shown: bool = True) -> float:
        pairs = []
        for position, label, value in self.axes[axis][0]["ticks"]:
            if label and shown:
                pairs.append((position, float(label.replace("−", "-"))))
            elif not shown:
                pairs.append((position, float(value)))
        pairs.sort()
        xs, vs = [p for p, _ in pairs], [v for _, v in pairs]
        if x > xs[-1]:
            return vs[-1] + (x - xs[-1]) * (vs[-1] - vs[-2]) / (xs[-1] - xs[-2])
        return float(np.interp(x, xs, vs))

    def probability(self, values: dict[str, float | str], horizon: int = 0) -> float | None:
        """Probability, or None outside the ticks of the outcome axis."""
        total = sum(self.points(name, v) for name, v in values.items())
        ticks = sorted((float(label), x) for x, label, _ in self.axes["total"][0]["ticks"] if label)
        slope = (ticks[-1][1] - ticks[0][1]) / (ticks[-1][0] - ticks[0][0])
        x = ticks[0][1] + (total - ticks[0][0]) * slope
        positions = [p for p, _, _ in self.axes[f"outcome-{horizon}"][0]["ticks"]]
        if not min(positions) <= x <= max(positions):
            return None
        return self._scale(f"outcome-{horizon}", x, shown=False)


class TableReader:
    """Reads a probability from the printed points table, and from nothing else."""

    def __init__(self, text: str) -> None:
        rows = list(csv.DictReader(io.StringIO(text)))
        self.points = [r for r in rows if r["section"] == "points"]
        self.chances = [r for r in rows if r["section"] == "probability"]
        note = next(r["name"] for r in rows if r["section"] == "note" and "off by at most" in r["name"])
        match = re.search(r"at most ([0-9.]+)\.$", note)
        assert match is not None
        self.stated = float(match.group(1))

    def probability(self, values: dict[str, float | str], given: dict[str, str] | None = None) -> float:
        total = 0.0
        for name, value in values.items():
            rows = [r for r in self.points if r["name"] == name and r["given"] == (given or {}).get(name, "")]
            assert rows, name
            if isinstance(value, str):
                total += float(next(r["points"] for r in rows if r["value"] == value))
            else:
                total += float(np.interp(value, [float(r["value"]) for r in rows], [float(r["points"]) for r in rows]))
        first = self.chances[0]["name"]
        rows = [r for r in self.chances if r["name"] == first]
        return float(np.interp(total, [float(r["points"]) for r in rows], [float(r["probability"]) for r in rows]))
