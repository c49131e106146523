"""Draw a gallery of nomograms to look at: `python examples/gallery/make_gallery.py [--out runs/gallery]`.

Coefficients and patients are made up, except the low-birth-weight model (MASS::birthwt, fitted with rms).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from osml import nomogram as nm
from osml.errors import OsmlError
from osml.nomogram.canvas import collisions
from osml.nomogram.draw import chart_page, pages
from osml.nomogram.fonts import FontSet

CJK_FONTS = (
    "/usr/share/fonts/truetype/wqy/wqy-zenhei.ttc",
    "/usr/share/fonts/truetype/droid/DroidSansFallbackFull.ttf",
)


@dataclass(frozen=True)
class Sheet:
    """One picture of the gallery."""

    name: str
    nomogram: nm.Nomogram
    page: str = "a4"
    theme: str = "print"
    patient: dict[str, Any] | None = None
    fonts: tuple[str, ...] = ()
    extras: dict[str, Any] = field(default_factory=dict)


def provenance(name: str) -> dict[str, str]:
    return {"model": name, "hash": "3fa9c1d07be2", "seed": "1", "osml": "0.1.0"}


def about(name: str, **more: Any) -> dict[str, Any]:
    return {
        "population": "Made-up patients with osteosarcoma of the extremities",
        "centre": "Example hospital",
        "period": "2012 to 2022",
        "time_of_prediction": "before surgery",
        "n": 412,
        "events": 131,
        "parameters": 9,
        "performance": [
            {"measure": "C", "apparent": 0.781, "corrected": 0.762, "low": 0.713, "high": 0.808},
            {"measure": "Calibration slope", "apparent": 1.0, "corrected": 0.92, "low": 0.74, "high": 1.11},
            {"measure": "Brier", "apparent": 0.171, "corrected": 0.178, "low": None, "high": None},
        ],
        "provenance": provenance(name),
        **more,
    }


def three_predictors() -> nm.Nomogram:
    rng = np.random.default_rng(1)
    n = 412
    age, volume = rng.gamma(9, 2.1, n).round(), np.exp(rng.normal(4.6, 0.8, n)).round()
    huvos = rng.integers(0, 2, n).astype(float)
    lp = -4.4 + 0.03 * age + 0.55 * np.log(volume) + 0.9 * huvos
    y = rng.random(n) < 1 / (1 + np.exp(-lp))
    predictors = [
        nm.number_predictor("age", age, label="Age", unit="years"),
        nm.number_predictor("volume", volume, log=True, label="Tumour volume", unit="ml", definition="on MRI"),
        nm.category_predictor("huvos", huvos, ("good", "poor"), events=y, label="Histological response"),
    ]
    return nm.from_coefficients(
        {"Intercept": -4.4, "age": 0.03, "log(volume)": 0.55, "huvos=poor": 0.9},
        predictors,
        nm.LogisticOutcome("relapse", "within 2 years"),
        training={"age": age, "volume": volume, "huvos": huvos},
        covariance=np.diag([0.9, 0.012, 0.14, 0.21]) ** 2,
        interval=nm.Interval("wald"),
        metadata=about("three"),
    )


def many_predictors(k: int) -> nm.Nomogram:
    rng = np.random.default_rng(k)
    names = (
        ("Alkaline phosphatase", "U/l", 180, 90),
        ("Lactate dehydrogenase", "U/l", 320, 110),
        ("Haemoglobin", "g/dl", 12.9, 1.5),
        ("Albumin", "g/l", 41, 4),
        ("C-reactive protein", "mg/l", 18, 12),
        ("Neutrophils", "10⁹/l", 4.9, 1.6),
        ("Lymphocytes", "10⁹/l", 1.9, 0.6),
        ("Platelets", "10⁹/l", 290, 80),
        ("Age", "years", 19, 7),
        ("Tumour length", "cm", 10, 3.5),
        ("Calcium", "mmol/l", 2.35, 0.1),
        ("Creatinine", "µmol/l", 64, 15),
        ("Ferritin", "µg/l", 150, 70),
        ("D-dimer", "mg/l", 0.9, 0.4),
        ("Body mass index", "kg/m²", 22, 3.5),
        ("Bilirubin", "µmol/l", 11, 4),
    )
    coefficients, predictors, training = {"Intercept": -1.0}, [], {}
    for i in range(k):
        if i % 5 == 4:
            levels = (("no", "yes"), ("osteoblastic", "chondroblastic", "fibroblastic", "other"), ("I", "II", "III"))[
                i // 5 % 3
            ]
            codes = rng.integers(0, len(levels), 412).astype(float)
            label = ("Pathological fracture", "Subtype", "Stage")[i // 5 % 3] + (f" {i // 15 + 1}" if i >= 15 else "")
            predictors.append(nm.category_predictor(f"c{i}", codes, levels, label=label))
            training[f"c{i}"] = codes
            coefficients |= {f"c{i}={level}": float(rng.normal(0, 0.7)) for level in levels[1:]}
        else:
            label, unit, mean, sd = names[i % len(names)]
            digits = 0 if sd >= 3 else 1 if sd >= 0.5 else 2
            x = np.round(np.maximum(rng.normal(mean, sd, 412), mean / 20), digits)
            tag = f" {i // len(names) + 1}" if i >= len(names) else ""
            predictors.append(nm.number_predictor(f"x{i}", x, label=label + tag, unit=unit, decimals=digits))
            training[f"x{i}"] = x
            b = float(rng.normal(0, 0.35) / sd)
            coefficients[f"x{i}"] = b
            coefficients["Intercept"] -= b * mean
    return nm.from_coefficients(
        coefficients, predictors, nm.LogisticOutcome("poor response"), training=training, metadata=about(f"many-{k}")
    )


def spline() -> nm.Nomogram:
    rng = np.random.default_rng(3)
    n = 300
    age = rng.gamma(4, 9, n).round()
    alp, size = np.exp(rng.normal(5.1, 0.5, n)).round(), rng.normal(9, 3, n).clip(2, 22).round(1)
    site = rng.integers(0, 4, n).astype(float)
    predictors = [
        nm.number_predictor("age", age, label="Age", unit="years", definition="at diagnosis"),
        nm.number_predictor("alp", alp, label="Alkaline phosphatase", unit="U/l"),
        nm.number_predictor("size", size, label="Largest diameter", unit="cm", decimals=1),
        nm.category_predictor("site", site, ("femur", "tibia", "humerus", "axial"), label="Site"),
    ]
    coefficients = {
        "Intercept": 0.4,
        "age": -0.095,
        "age'": 0.42,
        "age''": -0.62,
        "alp": 0.006,
        "alp'": -0.0055,
        "size": 0.09,
        "site=tibia": -0.2,
        "site=humerus": 0.45,
        "site=axial": 1.2,
    }
    return nm.from_coefficients(
        coefficients,
        predictors,
        nm.LogisticOutcome("metastasis", "at diagnosis"),
        knots={"age": (10, 20, 40, 65), "alp": (80, 160, 380)},
        training={"age": age, "alp": alp, "size": size, "site": site},
        metadata=about("splines", n=300, events=88, exploratory="300 patients; Riley's criteria ask for 520."),
    )


def interaction() -> nm.Nomogram:
    rng = np.random.default_rng(4)
    n = 350
    age, dose = rng.normal(48, 14, n).round(), rng.normal(60, 12, n).round(1)
    sex = rng.integers(0, 2, n).astype(float)
    predictors = [
        nm.number_predictor("age", age, label="Age", unit="years"),
        nm.category_predictor("sex", sex, ("female", "male"), label="Sex"),
        nm.number_predictor("dose", dose, label="Dose", unit="mg/m²", decimals=1),
    ]
    return nm.from_coefficients(
        {"Intercept": -3.2, "age": 0.015, "sex=male": -1.6, "dose": 0.02, "age * sex=male": 0.045},
        predictors,
        nm.LogisticOutcome("ototoxicity"),
        training={"age": age, "sex": sex, "dose": dose},
        metadata=about("interaction"),
    )


def survival(show: str = "risk") -> nm.Nomogram:
    rng = np.random.default_rng(5)
    n = 412
    age, ldh = rng.gamma(6, 4, n).round(), np.exp(rng.normal(5.6, 0.45, n)).round()
    hits = rng.random(n) < 0.35
    mets, margin = (rng.random(n) < 0.2).astype(float), rng.integers(0, 3, n).astype(float)
    times = tuple(float(t) for t in range(2, 122, 2))
    steps = tuple(float(np.exp(-0.011 * t**0.93)) for t in times)
    predictors = [
        nm.number_predictor("age", age, label="Age", unit="years"),
        nm.number_predictor(
            "ldh", ldh, log=True, label="Lactate dehydrogenase", unit="U/l", units=(nm.Unit("µkat/l", 1 / 60),)
        ),
        nm.category_predictor("mets", mets, ("M0", "M1"), label="Metastases at diagnosis", events=hits),
        nm.category_predictor("margin", margin, ("wide", "marginal", "intralesional"), label="Surgical margin"),
    ]
    outcome = nm.CoxOutcome(
        "death",
        (24.0, 60.0, 120.0),
        (steps[11], steps[29], steps[59]),
        "months",
        show,
        at_risk=(301, 122, 14),
        baseline_times=times,
        baseline_survival=steps,
        log_hazard_variance=(0.012, 0.008, 0.009),
        mean_design=((24.0, 5.6, 0.2, 0.33, 0.33),) * 3,
    )
    return nm.from_coefficients(
        {"age": 0.018, "log(ldh)": 0.62, "mets=M1": 1.25, "margin=marginal": 0.3, "margin=intralesional": 0.85},
        predictors,
        outcome,
        center=0.018 * 24 + 0.62 * 5.6 + 0.25,
        covariance=np.diag([0.008, 0.18, 0.2, 0.21, 0.24]) ** 2,
        interval=nm.Interval("wald"),
        training={"age": age, "ldh": ldh, "mets": mets, "margin": margin},
        metadata=about(
            "cox", validation="externally validated in 203 patients of a second centre, C 0.74 (0.69 to 0.79)"
        ),
    )


def long_labels() -> nm.Nomogram:
    rng = np.random.default_rng(6)
    n = 400
    levels = (
        "osteoblastic, conventional, high grade",
        "chondroblastic with focal dedifferentiation",
        "telangiectatic (blood-filled cystic spaces)",
        "small cell, resembling a Ewing sarcoma",
        "parosteal or periosteal (surface), grade 1",
        "secondary, in Paget disease or after rays",
        "not otherwise specified, or not classified",
    )
    kind = rng.integers(0, len(levels), n).astype(float)
    hits = rng.random(n) < 0.3
    score = rng.normal(0, 1, n)
    predictors = [
        nm.category_predictor(
            "kind",
            kind,
            levels,
            events=hits,
            label="Histological subtype of the World Health Organization",
            definition="fifth edition, read by two pathologists who did not know the outcome",
        ),
        nm.number_predictor(
            "score",
            score,
            label="Rad-score",
            by_hand=False,
            second_reader=(0.02, 0.07),
            definition="logit of the radiomics model, out of fold",
        ),
        nm.category_predictor(
            "resection",
            rng.integers(0, 2, n),
            ("limb-sparing resection with reconstruction", "amputation"),
            label="Operation",
            unknown=0,
        ),
    ]
    effects = (0.1, 0.15, 0.9, -0.8, 1.6, 1.55)
    return nm.from_coefficients(
        {"Intercept": -0.4, "score": 0.8, "resection=amputation": 0.5}
        | {f"kind={level}": b for level, b in zip(levels[1:], effects, strict=True)},
        predictors,
        nm.LogisticOutcome("local recurrence or distant metastasis or death of any cause", "within 5 years of surgery"),
        metadata=about(
            "long",
            warnings=["The corrected calibration slope is 0.74 (OSML045)."],
            accepted={"OSML041": "single-centre rare disease; the protocol fixed the candidates in advance"},
        ),
    )


def cjk() -> nm.Nomogram:
    predictors = [
        nm.Predictor("age", low=10, high=60, label="年龄", unit="岁", decimals=0),
        nm.Predictor("stage", "category", levels=("Ⅰ期", "Ⅱ期", "Ⅲ期"), label="Enneking 分期"),
        nm.Predictor("beta", low=0.5, high=4.5, label="β₂-Mikroglobulin α", unit="mg/l", decimals=1),
    ]
    return nm.from_coefficients(
        {"Intercept": -2.0, "age": 0.03, "stage=Ⅱ期": 0.8, "stage=Ⅲ期": 1.9, "beta": 0.3},
        predictors,
        nm.LogisticOutcome("复发", "两年内"),
        metadata={
            "title": "骨肉瘤两年内复发风险",
            "centre": "示例医院",
            "n": 210,
            "events": 70,
            "parameters": 4,
            "provenance": provenance("cjk"),
        },
    )


def sheets() -> Iterator[Sheet]:
    """All sheets; the CJK one only where a font is installed."""
    three = three_predictors()
    yield Sheet("01_three_predictors_a4", three)
    yield Sheet("02_three_predictors_letter", three, "letter")
    yield Sheet("03_three_predictors_column", three, "column")
    yield Sheet("04_three_predictors_patient", three, patient={"age": 17, "volume": 140, "huvos": "poor"})
    yield Sheet("05_fifteen_predictors_a4", many_predictors(15))
    yield Sheet("06_twentyfive_predictors_letter", many_predictors(25), "letter")
    yield Sheet("07_fifteen_predictors_column", many_predictors(15), "column")
    yield Sheet("08_splines_a4", spline())
    yield Sheet("09_splines_patient", spline(), patient={"age": 31, "alp": 210, "size": 8.0, "site": "axial"})
    yield Sheet("10_interaction_a4", interaction(), patient={"age": 55, "sex": "male", "dose": 64.0})
    yield Sheet("11_cox_risk_a4", survival(), patient={"age": 21, "ldh": 420, "mets": "M0", "margin": "marginal"})
    yield Sheet("12_cox_survival_column", survival("survival"), "column")
    yield Sheet("13_long_labels_a4", long_labels())
    yield Sheet("14_long_labels_column", long_labels(), "column")
    yield Sheet("15_screen_theme", spline(), theme="screen")
    font = next((f for f in CJK_FONTS if Path(f).is_file()), None)
    if font is not None:
        yield Sheet("16_cjk_a4", cjk(), fonts=(font,), patient={"age": 25, "stage": "Ⅱ期", "beta": 2.1})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/gallery"))
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    wrong = 0
    for sheet in sheets():
        options: dict[str, Any] = {
            "page": sheet.page,
            "theme": sheet.theme,
            "patient": sheet.patient,
            "fonts": sheet.fonts,
        }
        try:
            for ending in ("pdf", "png", "svg"):
                nm.draw(sheet.nomogram, out / f"{sheet.name}.{ending}", **options)
            (out / f"{sheet.name}.html").write_text(nm.calculator(sheet.nomogram, fonts=sheet.fonts), encoding="utf-8")
            fonts = FontSet(sheet.fonts)
            drawn = [
                *pages(sheet.nomogram, page=sheet.page, patient=sheet.patient, fonts=fonts),
                chart_page(sheet.nomogram, page=sheet.page, patient=sheet.patient, fonts=fonts),
            ]
            problems = [text for page in drawn for text in collisions(page, fonts)]
        except OsmlError as error:
            problems = [str(error)]
        wrong += bool(problems)
        print(f"{sheet.name:36}{'  ok' if not problems else ''}", *problems, sep="\n    " if problems else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
