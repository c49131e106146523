"""A synthetic cohort after the published marginals of an MRI radiomics study of response to neoadjuvant chemotherapy.

Zheng et al., MRI-based intratumoral and peritumoral radiomics predicting neoadjuvant chemotherapy response in
osteosarcoma, Table 1: 93 patients, 45 good and 48 poor responders. Inputs are drawn independently within each response
group from the published mean and SD or counts, so ALP and fracture carry the published difference and little else
does. ALP of poor responders is log-normal with a few very high values: a mean of 468 with an SD of 881 beside the
published rank test (z = -2.845) leaves no other shape. The missing LDH values and the two assays are our addition.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from osml.errors import InvalidInputError
from osml.files import atomic_write, write_csv

NOTICE = "Synthetic data: no row describes a real person.\n"

# Means and SDs, or counts, in (good, poor) responders: Table 1.
_POOR_SHARE = 48 / 93
_NUMBERS: Mapping[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "age": ((16.44, 8.60), (17.77, 8.89)),
    "diameter": ((104.58, 43.34), (96.17, 35.63)),
    "alp": ((207.00, 121.98), (467.58, 880.58)),
    "ldh": ((225.73, 88.60), (202.94, 59.71)),
}
# Poor responders' ALP: 96 % around a median of 252, 4 % about 4,400.
_ALP_POOR = (302.0, 199.0)
_ALP_HIGH = (4400.0, 1800.0)
_HIGH_SHARE = 0.04
_FLOORS = {"age": 4.0, "diameter": 20.0, "alp": 30.0, "ldh": 90.0}
_COUNTS: Mapping[str, tuple[Mapping[str, int], Mapping[str, int]]] = {
    "sex": ({"male": 11, "female": 34}, {"male": 13, "female": 35}),
    "location": ({"femur": 30, "tibia": 8, "other": 7}, {"femur": 30, "tibia": 9, "other": 9}),
    "pathological_fracture": ({"None": 24, "Yes": 21}, {"None": 12, "Yes": 36}),
    "lung_metastasis": ({"None": 41, "Yes": 4}, {"None": 44, "Yes": 4}),
    "subtype": ({"common": 39, "other": 6}, {"common": 43, "other": 5}),
}
COLUMNS = (
    "patient_id", "age", "sex", "location", "diameter", "pathological_fracture", "lung_metastasis", "subtype",
    "alp", "ldh", "ldh_low", "ldh_high", "response",
)  # fmt: skip


@dataclass(frozen=True)
class NacCohort:
    """Columns of the table in order, as texts."""

    rows: tuple[tuple[str, ...], ...]


def simulate_nac(patients: int = 93, seed: int = 2026, missing_ldh: float = 0.05) -> NacCohort:
    """Draw the clinical table.

    Parameters
    ----------
    patients : at least 10; the published study has 93
    seed : the same seed gives the same bytes
    missing_ldh : share of LDH cells written as "-", independent of everything
    """
    if patients < 10:
        raise InvalidInputError(f"{patients} patients are too few for a cohort; at least 10")
    rng = np.random.default_rng(seed)
    poor = np.zeros(patients, dtype=bool)
    poor[: round(patients * _POOR_SHARE)] = True
    poor = rng.permutation(poor)
    texts: dict[str, list[str]] = {}
    for name, by_group in _NUMBERS.items():
        values = np.empty(patients)
        for group, (mean, sd) in enumerate(by_group):
            here = poor == bool(group)
            n = int(here.sum())
            values[here] = _poor_alp(n, rng) if name == "alp" and group else _log_normal(mean, sd, n, rng)
        digits = 0 if name != "age" else 1
        texts[name] = [f"{max(v, _FLOORS[name]):.{digits}f}" for v in values]
    for name, by_level in _COUNTS.items():
        column = np.empty(patients, dtype=object)
        for group, counts in enumerate(by_level):
            here = poor == bool(group)
            column[here] = _deal(counts, int(here.sum()), rng)
        texts[name] = column.tolist()
    for i in np.flatnonzero(rng.random(patients) < missing_ldh):
        texts["ldh"][i] = "-"
    # Two assays, so that the kit range is a column as in a real laboratory export.
    newer = rng.random(patients) < 0.4
    texts["ldh_low"] = ["125" if new else "120" for new in newer]
    texts["ldh_high"] = ["220" if new else "250" for new in newer]
    texts["patient_id"] = [f"NAC{i + 1:04d}" for i in range(patients)]
    texts["response"] = ["poor" if p else "good" for p in poor]
    return NacCohort(tuple(zip(*(texts[name] for name in COLUMNS), strict=True)))


def write_nac(folder: Path, patients: int = 93, seed: int = 2026) -> Path:
    """Write patients.csv and a notice into a folder; returns the table's path."""
    table = folder / "patients.csv"
    write_csv(table, COLUMNS, simulate_nac(patients, seed).rows)
    atomic_write(folder / "SYNTHETIC.txt", NOTICE + f"osml synth nac --patients {patients} --seed {seed}\n")
    return table


def log_likelihood_ratio(cohort: NacCohort) -> NDArray[np.float64]:
    """Log density of each row among poor minus among good responders: the score that no other one beats.

    Exact but for rounding to whole units: inputs are independent within a group, a missing LDH adds nothing, and
    what lies at a floor counts with the probability of falling below it.
    """
    columns = dict(zip(COLUMNS, zip(*cohort.rows, strict=True), strict=True))
    out = np.zeros(len(cohort.rows))
    for name, by_group in _NUMBERS.items():
        value = np.array([float(cell) if cell != "-" else np.nan for cell in columns[name]])
        good, poor = (_log_density(value, mean, sd, _FLOORS[name]) for mean, sd in by_group)
        if name == "alp":
            parts = [(1 - _HIGH_SHARE, _ALP_POOR), (_HIGH_SHARE, _ALP_HIGH)]
            poor = np.logaddexp(*(np.log(share) + _log_density(value, *at, _FLOORS[name]) for share, at in parts))
        out += np.where(np.isnan(value), 0.0, poor - good)
    for name, by_level in _COUNTS.items():
        shares = [{level: count / sum(counts.values()) for level, count in counts.items()} for counts in by_level]
        out += np.log([shares[1][level] / shares[0][level] for level in columns[name]])
    return out


def _log_density(value: NDArray[np.float64], mean: float, sd: float, floor: float) -> NDArray[np.float64]:
    """Log-normal, censored at the floor; without the constant that cancels in a ratio."""
    spread = np.sqrt(np.log1p((sd / mean) ** 2))
    centre = np.log(mean) - spread**2 / 2
    inside = -np.log(spread) - ((np.log(value) - centre) / spread) ** 2 / 2
    return np.where(value <= floor, log_ndtr((np.log(floor) - centre) / spread), inside)


def _poor_alp(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    high = round(_HIGH_SHARE * n)
    return rng.permutation(np.concatenate([_log_normal(*_ALP_POOR, n - high, rng), _log_normal(*_ALP_HIGH, high, rng)]))


def _log_normal(mean: float, sd: float, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    variance = np.log1p((sd / mean) ** 2)
    return np.exp(rng.normal(np.log(mean) - variance / 2, np.sqrt(variance), n))


def _deal(counts: Mapping[str, int], n: int, rng: np.random.Generator) -> NDArray[np.object_]:
    """Levels in their published shares, as exactly as n allows (largest remainders), in random order."""
    levels = list(counts)
    exact = n * np.array([counts[level] for level in levels]) / sum(counts.values())
    whole = np.floor(exact).astype(int)
    for i in np.argsort(whole - exact, kind="stable")[: n - whole.sum()]:
        whole[i] += 1
    return rng.permutation(np.repeat(np.array(levels, dtype=object), whole))
