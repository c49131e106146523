"""Both ways between R and osml, with a live rms: its scale, its points, its probabilities."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from nomogram_models import ROOT

from osml.nomogram import CoxOutcome, LogisticOutcome, Predictor, from_coefficients, to_json

SCRIPT = Path(__file__).parents[2] / "docs" / "nomogram_from_r.R"


def run_r(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["Rscript", "-e", code], capture_output=True, text=True, timeout=300, check=False)


pytestmark = [pytest.mark.full, pytest.mark.skipif(shutil.which("Rscript") is None, reason="no R")]


@pytest.fixture(scope="module", autouse=True)
def _rms() -> None:
    if run_r("library(rms); library(jsonlite)").returncode != 0:
        pytest.skip("R has no rms or jsonlite: apt-get install r-cran-rms r-cran-jsonlite")


PREAMBLE = f"""
suppressMessages(library(rms)); source("{SCRIPT}")
write <- function(x, f) jsonlite::write_json(x, f, digits = NA, auto_unbox = TRUE)
axes <- function(n) lapply(n[!names(n) %in% c("total.points", "lp", "P")], function(a)
  list(values = as.character(a[[1]]), points = a$points))
"""


def r(folder: Path, code: str) -> dict[str, Any]:
    done = run_r(PREAMBLE + f'out <- "{folder}"\n' + code)
    assert done.returncode == 0, done.stderr
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}


def test_a_logistic_model_with_a_u_shape_and_back(tmp_path: Path) -> None:
    made = r(
        tmp_path,
        """
set.seed(4); n <- 400
d <- data.frame(x = rnorm(n, 50, 12), z = exp(rnorm(n)), g = factor(sample(c("a", "b", "c"), n, TRUE)))
d$y <- rbinom(n, 1, plogis(0.004 * (d$x - 48)^2 - 1 + 0.5 * log(d$z) + (d$g == "b")))
dd <- datadist(d); options(datadist = "dd")
f <- lrm(y ~ rcs(x, 4) + log(z) + g, data = d, tol = 1e-14, eps = 1e-10, maxit = 50)
export_rms(f, file.path(out, "fit.json"))
ticks <- list(x = seq(25, 75, 5), z = c(0.25, 0.5, 1, 2, 4, 8))
nom <- nomogram(f, x = ticks$x, z = ticks$z, fun = plogis, funlabel = "P", lp = TRUE)
write(axes(nom), file.path(out, "axes.json"))
write.csv(cbind(d, p = predict(f, type = "fitted")), file.path(out, "d.csv"), row.names = FALSE)
write(attr(nom, "info")$sc, file.path(out, "sc.json"))
""",
    )
    fit, axes = made["fit"], made["axes"]
    predictors = [
        Predictor("x", ticks=tuple(float(v) for v in axes["x"]["values"])),
        Predictor("z", ticks=tuple(float(v) for v in axes["z"]["values"]), log=True),
        Predictor("g", "category", levels=tuple(fit["levels"]["g"])),
    ]
    coefficients = {name.replace("z", "log(z)") if name == "z" else name: b for name, b in fit["coefficients"].items()}
    n = from_coefficients(
        coefficients,
        predictors,
        LogisticOutcome("event"),
        knots=fit["knots"],
        covariance=fit["covariance"],
        extremes="ticks",
    )
    assert n.components[0].axes[0].turns
    for c in n.components:
        np.testing.assert_allclose(n.axis_points(c, c.axes[0], c.axes[0].ticks), axes[c.name]["points"], atol=1e-8)
    assert n.scale == pytest.approx(np.ravel(made["sc"])[0], rel=1e-10)
    data = pd.read_csv(tmp_path / "d.csv")
    values = {"x": data.x.to_numpy(), "z": data.z.to_numpy(), "g": data.g.to_numpy()}
    np.testing.assert_allclose(n.probability(values), data.p, rtol=1e-9)
    (tmp_path / "nomogram.json").write_text(to_json(n), encoding="utf-8")
    back = r(
        tmp_path,
        """
d <- read.csv(file.path(out, "d.csv"))
write(read_osml(file.path(out, "nomogram.json"))(d), file.path(out, "back.json"))
""",
    )["back"]
    np.testing.assert_allclose(back, n.probability(values), rtol=1e-10)


def test_a_cox_model_with_an_interaction_and_back(tmp_path: Path) -> None:
    made = r(
        tmp_path,
        f"""
d <- na.omit(read.csv("{ROOT / "data" / "lung.csv"}")[, c("time", "status", "age", "sex", "ph.ecog")])
names(d)[5] <- "ecog"; d$sex <- factor(d$sex, labels = c("male", "female"))
dd <- datadist(d); options(datadist = "dd")
f <- cph(Surv(time, status == 2) ~ age * sex + ecog, data = d, x = TRUE, y = TRUE, surv = TRUE, eps = 1e-11)
export_rms(f, file.path(out, "fit.json"), times = c(182, 365))
write(survest(f, newdata = d, times = c(182, 365), se.fit = FALSE)$surv, file.path(out, "surv.json"))
write.csv(d, file.path(out, "d.csv"), row.names = FALSE)
""",
    )
    fit = made["fit"]
    predictors = [
        Predictor("age", low=40, high=80),
        Predictor("sex", "category", levels=tuple(fit["levels"]["sex"])),
        Predictor("ecog", low=0, high=3, decimals=0),
    ]
    outcome = CoxOutcome("death", tuple(float(t) for t in fit["times"]), tuple(fit["survival"]), "days", "survival")
    n = from_coefficients(fit["coefficients"], predictors, outcome, center=fit["center"], covariance=fit["covariance"])
    data = pd.read_csv(tmp_path / "d.csv")
    values = {name: data[name].to_numpy() for name in ("age", "sex", "ecog")}
    np.testing.assert_allclose(n.probability(values), np.asarray(made["surv"]), rtol=1e-8)
    (tmp_path / "nomogram.json").write_text(to_json(n), encoding="utf-8")
    back = r(
        tmp_path,
        """
d <- read.csv(file.path(out, "d.csv"))
write(read_osml(file.path(out, "nomogram.json"))(d), file.path(out, "back.json"))
""",
    )["back"]
    np.testing.assert_allclose(back, n.probability(values), rtol=1e-10)


def test_a_spline_that_differs_by_sex_has_the_axes_of_rms(tmp_path: Path) -> None:
    made = r(
        tmp_path,
        f"""
d <- na.omit(read.csv("{ROOT / "data" / "lung.csv"}")[, c("time", "status", "age", "sex", "ph.ecog")])
names(d)[5] <- "ecog"; d$sex <- factor(d$sex, labels = c("male", "female"))
dd <- datadist(d); options(datadist = "dd")
f <- lrm(status == 2 ~ rcs(age, 3) * sex + ecog, data = d, tol = 1e-14, eps = 1e-10, maxit = 50)
export_rms(f, file.path(out, "fit.json"))
nom <- nomogram(f, age = seq(40, 80, 5), ecog = 0:3, fun = plogis, funlabel = "P")
write(lapply(nom[1:3], function(a) a$points), file.path(out, "points.json"))
""",
    )
    fit, points = made["fit"], made["points"]
    predictors = [
        Predictor("age", ticks=tuple(float(v) for v in range(40, 81, 5))),
        Predictor("sex", "category", levels=tuple(fit["levels"]["sex"])),
        Predictor("ecog", ticks=(0.0, 1.0, 2.0, 3.0)),
    ]
    n = from_coefficients(
        fit["coefficients"], predictors, LogisticOutcome("death"), knots=fit["knots"], extremes="ticks"
    )
    age, ecog = n.components
    for axis, name in zip(age.axes, ("age (sex=male)", "age (sex=female)"), strict=True):
        np.testing.assert_allclose(n.axis_points(age, axis, axis.ticks), points[name], atol=1e-8)
    np.testing.assert_allclose(n.axis_points(ecog, ecog.axes[0], ecog.axes[0].ticks), points["ecog"], atol=1e-8)
