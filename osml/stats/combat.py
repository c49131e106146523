"""ComBat: removing the location and scale that a scanner or centre adds to features, fitted in training patients only.

Source: Johnson, Li & Rabinovic 2007, Biostatistics 8:118, the parametric empirical-Bayes form of `sva::ComBat` (no
reference batch). Covariates are protected: what they explain is left in the features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osml.errors import ConvergenceError, InvalidInputError, NotEstimableError

Array = NDArray[np.float64]

_TOLERANCE = 1e-12
_MAX_ITERATIONS = 10_000


@dataclass(frozen=True)
class Combat:
    """A fitted harmonisation of p features over b batches.

    Parameters
    ----------
    batches : tuple of str
        Names of the training batches, sorted.
    counts : tuple of int
        Training patients in each.
    mean : float array (p,)
        Grand mean of each feature: batch means weighted by batch size, at covariates of zero.
    sd : float array (p,)
        Residual standard deviation (divisor n).
    slopes : float array (q, p)
        Effects of the protected covariates.
    shift, scale : float arrays (b, p)
        Empirical-Bayes batch effects on standardised features: location, and variance ratio.
    """

    batches: tuple[str, ...]
    counts: tuple[int, ...]
    mean: Array
    sd: Array
    slopes: Array
    shift: Array
    scale: Array

    def apply(self, X: ArrayLike, batch: ArrayLike, covariates: ArrayLike | None = None) -> Array:
        """Harmonised features, float array (n, p); each row depends on itself alone.

        Parameters
        ----------
        X : float array (n, p)
        batch : array (n,)
            Compared as text; a batch that training did not hold is refused.
        covariates : float array (n, q)
            The protected covariates of training; required when there were any, since their part is added back.

        Raises
        ------
        InvalidInputError
            An unseen batch, another number of features or covariates, NaN.
        """
        x, c = _matrix(X, "X"), _covariates(covariates, len(np.asarray(X)))
        names = _batch_names(batch, len(x))
        if x.shape[1] != len(self.mean) or c.shape[1] != len(self.slopes):
            raise InvalidInputError(
                f"ComBat was fitted on {len(self.mean)} features and {len(self.slopes)} covariates, "
                f"got {x.shape[1]} and {c.shape[1]}"
            )
        unseen = sorted(set(names) - set(self.batches))
        if unseen:
            raise InvalidInputError(
                f"no training patient came from batch {', '.join(unseen)}; known: {', '.join(self.batches)}",
                why="The shift of a batch can only be learnt from patients of that batch.",
                do="Leave these patients out, or train with some of that batch.",
            )
        code = np.searchsorted(self.batches, names)
        expected = self.mean + _times(c, self.slopes)
        return ((x - expected) / self.sd - self.shift[code]) / np.sqrt(self.scale[code]) * self.sd + expected

    def to_dict(self) -> dict[str, Any]:
        """JSON form; `from_dict` gives back the same numbers to the last bit."""
        arrays = ("mean", "sd", "slopes", "shift", "scale")
        return {"batches": list(self.batches), "counts": list(self.counts)} | {
            name: getattr(self, name).tolist() for name in arrays
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Combat:
        """Inverse of `to_dict`."""
        mean = np.array(data["mean"], dtype=np.float64)
        slopes = np.array(data["slopes"], dtype=np.float64)
        return Combat(
            tuple(data["batches"]),
            tuple(data["counts"]),
            mean,
            np.array(data["sd"], dtype=np.float64),
            slopes.reshape(len(data["slopes"]), len(mean)),
            np.array(data["shift"], dtype=np.float64),
            np.array(data["scale"], dtype=np.float64),
        )


def fit_combat(X: ArrayLike, batch: ArrayLike, covariates: ArrayLike | None = None) -> Combat:
    """Learn batch effects from training patients.

    Parameters
    ----------
    X : float array (n, p)
        At least 2 features: the priors of the batch effects are learnt across features. NaN is refused.
    batch : array (n,)
        Scanner, centre or protocol; at least 2 batches with at least 2 patients each.
    covariates : float array (n, q), optional
        Numeric design columns (indicators for categories, no constant) whose effects stay in the features. Never the
        outcome: it is unknown at prediction, and protecting it writes it into the features.

    Raises
    ------
    NotEstimableError
        One batch, a batch of one patient, covariates confounded with batch, or a feature without residual variance.
    ConvergenceError
        The empirical-Bayes iteration did not settle.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> site = np.repeat(["A", "B"], 30)
    >>> x = rng.normal(size=(60, 5)) + 3 * (site == "B")[:, None]
    >>> y = fit_combat(x, site).apply(x, site)
    >>> float(np.abs(y[site == "A"].mean(axis=0) - y[site == "B"].mean(axis=0)).max()) < 0.5
    True
    """
    x, c = _matrix(X, "X"), _covariates(covariates, len(np.asarray(X)))
    names = _batch_names(batch, len(x))
    batches, code, counts = np.unique(names, return_inverse=True, return_counts=True)
    if x.shape[1] < 2:
        raise NotEstimableError(f"ComBat learns its priors across features and needs at least 2, got {x.shape[1]}")
    if len(batches) < 2:
        raise NotEstimableError(f"all {len(x)} patients come from one batch: nothing to harmonise")
    if counts.min() < 2:
        alone = ", ".join(str(b) for b in batches[counts < 2])
        raise NotEstimableError(
            f"batch {alone} has one training patient: its scale cannot be learnt",
            do="Merge it with a like batch, or leave it out.",
        )
    indicator = (code[:, None] == np.arange(len(batches))).astype(np.float64)
    design = np.hstack([indicator, c])
    scaled = design / np.maximum(np.abs(design).max(axis=0), 1e-300)
    if np.linalg.matrix_rank(scaled) < design.shape[1]:
        raise NotEstimableError(
            f"the {c.shape[1]} covariates and {len(batches)} batches are confounded (linearly dependent)",
            why="What the batch did and what the covariate did cannot be told apart.",
            do="Leave out the covariate that is constant, duplicated or determined by the batch.",
        )
    if len(x) <= design.shape[1]:
        raise NotEstimableError(f"{len(x)} patients for {design.shape[1]} batch and covariate columns")
    coef = np.linalg.lstsq(design, x, rcond=None)[0]
    slopes = coef[len(batches) :]
    mean = counts / len(x) @ coef[: len(batches)]
    sd = np.sqrt(np.mean((x - design @ coef) ** 2, axis=0))
    flat = np.flatnonzero(sd <= 1e-12 * np.maximum(np.abs(x).max(axis=0), 1e-300))
    if flat.size:
        raise NotEstimableError(
            f"{flat.size} features do not vary within batches (columns {_some(flat)})",
            do="Leave constant features out before harmonising.",
        )
    z = (x - mean - c @ slopes) / sd
    effects = [_empirical_bayes(z[code == i], str(name)) for i, name in enumerate(batches)]
    return Combat(
        tuple(str(b) for b in batches),
        tuple(int(k) for k in counts),
        mean,
        sd,
        slopes,
        np.array([shift for shift, _ in effects]),
        np.array([scale for _, scale in effects]),
    )


def _empirical_bayes(z: Array, name: str) -> tuple[Array, Array]:
    """Posterior location and variance ratio of one batch for every feature (Johnson 2007, section 3.2).

    Normal and inverse gamma priors by the method of moments over features; the two posterior means depend on each
    other and are iterated until neither moves.
    """
    n = len(z)
    shift, scale = z.mean(axis=0), z.var(axis=0, ddof=1)
    prior_mean, prior_variance = float(shift.mean()), float(shift.var(ddof=1))
    level, spread = float(scale.mean()), float(scale.var(ddof=1))
    if level <= 0:
        raise NotEstimableError(f"no feature varies in batch {name}")
    squares = scale * (n - 1)
    new_shift, new_scale = shift, scale
    for _ in range(_MAX_ITERATIONS):
        old_shift, old_scale = new_shift, new_scale
        new_shift = (n * prior_variance * shift + old_scale * prior_mean) / (n * prior_variance + old_scale)
        residual = squares + n * (shift - new_shift) ** 2
        # Inverse gamma with shape level²/spread + 2 and rate level (level²/spread + 1), multiplied by spread: with no
        # spread between features the prior alone decides.
        a, b = level**2 + 2 * spread, level * (level**2 + spread)
        new_scale = (0.5 * residual * spread + b) / (0.5 * n * spread + a - spread)
        moved = np.maximum(np.abs(new_shift - old_shift), np.abs(new_scale - old_scale) / np.maximum(old_scale, 1e-300))
        if moved.max() < _TOLERANCE:
            return new_shift, new_scale
    raise ConvergenceError(f"ComBat did not settle for batch {name} in {_MAX_ITERATIONS} iterations")


def _times(covariates: Array, slopes: Array) -> Array:
    """Matrix product column by column: BLAS may round a row differently with the number of rows."""
    out = np.zeros((len(covariates), slopes.shape[1]))
    for column, slope in zip(covariates.T, slopes, strict=True):
        out += column[:, None] * slope
    return out


def _matrix(X: ArrayLike, name: str) -> Array:
    try:
        x = np.asarray(X, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"{name} must hold numbers: {error}") from error
    if x.ndim != 2:
        raise InvalidInputError(f"{name} must have one row per patient and one column each, got shape {x.shape}")
    bad = ~np.isfinite(x)
    if np.any(bad):
        raise InvalidInputError(
            f"{name} holds {int(bad.sum())} missing or infinite values, in columns {_some(np.flatnonzero(bad.any(0)))}",
            do="Impute before harmonising, or leave these patients out.",
        )
    return x


def _covariates(covariates: ArrayLike | None, n: int) -> Array:
    if covariates is None:
        return np.empty((n, 0))
    c = _matrix(covariates, "covariates")
    if len(c) != n:
        raise InvalidInputError(f"{n} rows of features but {len(c)} rows of covariates")
    return c


def _batch_names(batch: ArrayLike, n: int) -> NDArray[np.str_]:
    given = np.asarray(batch)
    if given.shape != (n,):
        raise InvalidInputError(f"batch must name one batch for each of {n} rows, got shape {given.shape}")
    missing = sum(b is None or b != b or b == "" for b in given.tolist())
    if missing:
        raise InvalidInputError(f"batch is missing for {missing} of {n} rows")
    return np.array([str(b) for b in given.tolist()], dtype=np.str_)


def _some(columns: NDArray[np.intp]) -> str:
    shown = ", ".join(str(int(k)) for k in columns[:8])
    return shown + (f" and {len(columns) - 8} more" if len(columns) > 8 else "")
