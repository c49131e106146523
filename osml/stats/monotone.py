"""Whether a Cox maximum partial likelihood estimate exists: the counterpart of separation in logistic regression.

A coefficient runs to infinity when some direction ranks every death at least as high as all who were at risk with it.
Source: Bryson & Johnson 1981 (Technometrics 23:381); Heinze & Schemper 2001 (Biometrics 57:114).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import coo_array, csr_array, hstack, identity, vstack

from osml.errors import ConvergenceError, NotEstimableError
from osml.stats.cox_risk_sets import Likelihood, RiskSets, deaths_by_time, information
from osml.stats.inputs import Array


def overlaps_in_risk_sets(sets: RiskSets, Z: Array, at: Likelihood) -> bool:
    """True when the fit at hand proves that no direction makes the likelihood monotone; False decides nothing.

    The risk shares of all pairs (death, patient at risk) are positive multipliers that balance every column up to the
    gradient g. A relative correction (z_i - z_j)' M^-1 g, M the pairs' second moment, removes the rest; the multipliers
    stay positive while it is below 1.
    """
    if Z.shape[1] == 0:
        return True
    died = sets.weight * sets.died
    share = deaths_by_time(sets, died[:, None] * Z) / sets.deaths[:, None]
    count = sets.term_count[:, None]
    crossed = share[sets.term_time].T @ (count * at.mean)
    M = information(sets, Z, at) + (Z * died[:, None]).T @ Z - crossed - crossed.T + (count * at.mean).T @ at.mean
    size = np.linalg.eigvalsh(M)
    if size[0] <= 1e-10 * size[-1]:
        return False
    reach = Z[sets.until > 0] @ np.linalg.solve(M, Z.T @ at.residual)
    return bool(np.ptp(reach) < 0.1)


def refuse_inestimable(sets: RiskSets, Z: Array, to_raw: Array, at_zero: Likelihood) -> None:
    """Raise NotEstimableError for columns that do not vary within any risk set."""
    size, axes = np.linalg.eigh(information(sets, Z, at_zero))
    # What rounding leaves of a zero is relative to the terms before they cancel.
    before = float(((at_zero.risk * at_zero.exposure) @ Z**2).max())
    null = axes[:, size <= 1e-12 * before]
    if null.shape[1]:
        raise NotEstimableError(
            f"columns {_touched(to_raw, null)} of X are constant or linearly dependent among the patients at risk when "
            f"an event occurs ({sets.deaths.sum():g} events)",
            why="Their coefficients leave the partial likelihood unchanged.",
            do="Drop these columns, or use a ridge penalty.",
        )


def refuse_monotone(sets: RiskSets, Z: Array, to_raw: Array) -> None:
    """Raise NotEstimableError when the partial likelihood has no maximum, by linear programming.

    Unknowns: a direction b, and m_g, the largest z_j'b at risk at event time g. Deaths attain m_g. Every strict
    inequality counts 1, so that the optimum finds all of them at once.
    """
    q = Z.shape[1]
    g = len(sets.times)
    at_risk = np.flatnonzero(sets.until > 0)
    dead = np.flatnonzero(sets.died > 0)
    below = np.setdiff1d(at_risk, dead)

    def peak(rows: NDArray[np.intp]) -> csr_array:
        k = len(rows)
        return csr_array(coo_array((np.ones(k), (np.arange(k), sets.until[rows] - 1)), shape=(k, g)))

    chain = csr_array(identity(g, format="csr")[:-1] - identity(g, format="csr")[1:])
    strict = vstack(
        [
            hstack([csr_array(Z[below]), -peak(below)]),
            hstack([csr_array((g - 1, q)), -chain]),
        ]
    )
    k = strict.shape[0]
    equal = hstack([csr_array(Z[dead]), -peak(dead), csr_array((len(dead), k))], format="csr")
    result = linprog(
        np.concatenate([np.zeros(q + g), -np.ones(k)]),
        A_ub=hstack([strict, identity(k)], format="csr"),
        b_ub=np.zeros(k),
        A_eq=equal,
        b_eq=np.zeros(len(dead)),
        bounds=[(None, None)] * (q + g) + [(0.0, 1.0)] * k,
        method="highs",
    )
    if result.status != 0 or result.x is None:
        raise ConvergenceError(f"the linear programme for a monotone likelihood did not finish: {result.message}")
    won = result.x[q + g :] > 0.5
    if not won.any():
        return
    # Finite coefficients are those estimable from the comparisons that stay undecided.
    stretch = np.concatenate([[0], np.cumsum(won[len(below) :])])
    undecided = np.concatenate([dead, below[~won[: len(below)]]])
    part = stretch[sets.until[undecided] - 1]
    first = np.array([undecided[np.flatnonzero(part == c)[0]] for c in np.unique(part)])
    differences = Z[undecided] - Z[first[np.searchsorted(np.unique(part), part)]]
    _, size, rotation = np.linalg.svd(differences, full_matrices=True)
    rank = int((size > 1e-9 * max(size.max(initial=0.0), 1.0)).sum())
    raise NotEstimableError(
        f"the partial likelihood is monotone: columns {_touched(to_raw, rotation[rank:].T)} of X have no finite "
        f"estimate ({sets.deaths.sum():g} events, {int(won.sum())} comparisons are decided with certainty)",
        why="A maximum likelihood estimate does not exist; any number printed would be an accident of the iteration.",
        do="Merge or drop the level or column, or use a ridge penalty.",
    )


def _touched(to_raw: Array, null: Array) -> list[int]:
    """Columns of X whose coefficients move along the null directions."""
    moved = np.linalg.norm(to_raw @ null, axis=1) > 1e-7 * np.linalg.norm(to_raw, axis=1)
    return [int(j) for j in np.flatnonzero(moved)]
