"""Baseline characteristics overall and by group, with the rule that chose each test printed underneath.

Standardised mean differences: Austin 2009, Commun Stat Simul Comput 38:1228 (numbers and binary); Yang & Dalton 2012,
SAS Global Forum 335 (more levels). Tests: `osml.evaluation.group_tests` and `osml.evaluation.contingency`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import floor, inf, isfinite, log10, sqrt
from textwrap import fill
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from osml.errors import InvalidInputError, NotEstimableError
from osml.evaluation.contingency import chi_square, count_table, fisher_exact
from osml.evaluation.group_tests import anova, kruskal_wallis, mann_whitney, shapiro, t_test

Kind = Literal["number", "category"]
Array = NDArray[np.float64]

RULE = (
    "Numbers: mean ± SD and Welch's t-test (more than two groups: Welch's analysis of variance) where the Shapiro-Wilk "
    "p is at least 0.05 in every group; otherwise median [quartiles] and the Mann-Whitney (Kruskal-Wallis) test. A "
    "group of fewer than 3 or more than 5,000 values, or with all values equal, counts as not normal. "
    "Categories: n (%) of those with a value, chi-square test without continuity correction where every expected "
    "count is at least 5, otherwise Fisher's exact test. p-values are not adjusted for their number. "
    "SMD: absolute standardised mean difference; with more than two groups the mean over pairs."
)


@dataclass(frozen=True)
class TableOneRow:
    """One line. `p`, `test`, `smd` and `missing` stand on the first line of a variable only.

    Parameters
    ----------
    variable, level : str
        `level` is empty for a number.
    overall, groups : str, tuple of str
        Formatted cells.
    p, smd : float or None
        None where not computed; `test` then says why.
    missing : int or None
        Patients without a value.
    """

    variable: str
    level: str
    overall: str
    groups: tuple[str, ...]
    p: float | None
    test: str
    smd: float | None
    missing: int | None


@dataclass(frozen=True)
class TableOne:
    """A baseline table: `n` patients, group names and sizes, lines, and the rule that belongs underneath."""

    by: str | None
    n: int
    groups: tuple[str, ...]
    sizes: tuple[int, ...]
    rows: tuple[TableOneRow, ...]
    rule: str

    def to_frame(self) -> pd.DataFrame:
        """Text table, one row per line, ready for `to_csv(index=False)`; `rule` belongs printed under it."""
        lines: list[dict[str, str]] = []
        for row in self.rows:
            line = {"Variable": row.variable if row.missing is not None else "", "Level": row.level}
            line["Missing"] = "" if row.missing is None else str(row.missing)
            line[f"Overall (n = {self.n})"] = row.overall
            for name, size, cell in zip(self.groups, self.sizes, row.groups, strict=True):
                line[f"{name} (n = {size})"] = cell
            if self.groups:
                line["p"] = format_p(row.p)
                line["Test"] = row.test
                line["SMD"] = "" if row.smd is None else f"{row.smd:.3f}"
            lines.append(line)
        return pd.DataFrame(lines)

    def __str__(self) -> str:
        return f"{self.to_frame().to_string(index=False)}\n\n{fill(self.rule, 120)}"


def table_one(
    frame: pd.DataFrame,
    kinds: Mapping[str, Kind],
    *,
    by: str | None = None,
    levels: Mapping[str, Sequence[Any]] | None = None,
    seed: int = 0,
) -> TableOne:
    """Baseline characteristics of the patients in `frame`, overall and by group.

    Parameters
    ----------
    frame : DataFrame
        One row per patient; missing values are counted, never filled.
    kinds : mapping of "number" or "category"
        The variables shown, in this order.
    by : str, optional
        Column of groups (outcome, split, centre), without missing values; None: overall only.
    levels : mapping of sequences, optional
        Order of the levels of a category, or of the groups; a value outside is refused. Default: sorted as found.
    seed : int
        For Fisher tests too large to be exact.

    Raises
    ------
    InvalidInputError
        Unknown column, a number that is not one, a level outside `levels`, a missing group.

    Examples
    --------
    >>> frame = pd.DataFrame({"age": [61, 54, 70, 48, 66, 59], "sex": list("fmffmm"), "dead": [0, 0, 1, 0, 1, 1]})
    >>> table = table_one(frame, {"age": "number", "sex": "category"}, by="dead")
    >>> [(row.variable, row.level, *row.groups) for row in table.rows][:2]
    [('age', '', '54.33 ± 6.51', '65.00 ± 5.57'), ('sex', 'f', '2 (66.7%)', '1 (33.3%)')]
    """
    levels = {} if levels is None else levels
    if not len(frame):
        raise InvalidInputError("the table holds no patient")
    if by is not None and by in kinds:
        raise InvalidInputError(f"{by!r} defines the groups and cannot be a row as well")
    unknown = [name for name in (*kinds, *levels, *([by] if by is not None else [])) if name not in frame.columns]
    if unknown:
        raise InvalidInputError(f"no column {', '.join(map(repr, unknown))} in the table")
    members, names = _groups(frame, by, levels)
    rows: list[TableOneRow] = []
    for name, kind in kinds.items():
        if kind == "number":
            rows.append(_number_row(name, _numbers(frame[name]), members))
        elif kind == "category":
            rows.extend(_category_rows(name, frame[name], levels.get(name), members, seed))
        else:
            raise InvalidInputError(f"variable {name!r} has kind {kind!r}", do="Allowed: 'number', 'category'.")
    return TableOne(by, len(frame), names, tuple(int(m.sum()) for m in members), tuple(rows), RULE)


def smd_number(first: ArrayLike, second: ArrayLike) -> float:
    """Standardised mean difference, second minus first, by the root of the mean of the two variances.

    >>> round(smd_number([1, 2, 3, 4], [2, 3, 4, 6]), 3)
    0.826
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.ndim != 1 or b.ndim != 1 or not (np.all(np.isfinite(a)) and np.all(np.isfinite(b))):
        raise InvalidInputError("both groups must hold finite numbers in one dimension")
    if min(a.size, b.size) < 2:
        raise NotEstimableError(f"a standardised difference needs 2 values in each group, got {a.size} and {b.size}")
    spread = sqrt((float(a.var(ddof=1)) + float(b.var(ddof=1))) / 2)
    difference = float(b.mean() - a.mean())
    if spread == 0:
        return 0.0 if difference == 0 else float(np.sign(difference)) * inf
    return difference / spread


def smd_category(first: ArrayLike, second: ArrayLike) -> float:
    """Standardised difference of two multinomial proportions from counts by level, at least 0.

    Mahalanobis distance of the proportions (Yang & Dalton 2012); with two levels it is Austin's. Infinite when the
    groups share no level.

    >>> round(smd_category([73, 15, 42], [23, 11, 25]), 4)
    0.3556
    """
    counts = count_table(np.stack([np.asarray(first), np.asarray(second)]))
    if np.any(counts.sum(axis=1) == 0):
        raise NotEstimableError("a group holds no patient with a value")
    p, q = counts / counts.sum(axis=1, keepdims=True)
    # The covariance of all levels is singular along (1, ..., 1), to which p - q is orthogonal, so no level need go.
    covariance = (np.diag(p) - np.outer(p, p) + np.diag(q) - np.outer(q, q)) / 2
    values, vectors = np.linalg.eigh(covariance)
    along = vectors.T @ (p - q)
    solid = values > 1e-12
    if np.any(np.abs(along[~solid]) > 1e-9):
        return inf
    return float(sqrt(np.sum(along[solid] ** 2 / values[solid])))


def format_p(p: float | None) -> str:
    """p-value as printed in a table; empty for None.

    >>> format_p(0.04321), format_p(0.0001), format_p(0.9999)
    ('0.043', '<0.001', '>0.999')
    """
    if p is None or not isfinite(p):
        return ""
    if p < 0.001:
        return "<0.001"
    return ">0.999" if p > 0.999 else f"{p:.3f}"


def _groups(
    frame: pd.DataFrame, by: str | None, levels: Mapping[str, Sequence[Any]]
) -> tuple[list[NDArray[np.bool_]], tuple[str, ...]]:
    if by is None:
        return [], ()
    column = frame[by]
    if column.isna().any():
        raise InvalidInputError(
            f"{int(column.isna().sum())} of {len(frame)} patients have no value of {by!r}",
            do="Leave them out before, and report how many.",
        )
    order = _levels(by, column, levels.get(by))
    members = [(column == level).to_numpy(dtype=bool) for level in order]
    filled = [(m, level) for m, level in zip(members, order, strict=True) if m.any()]
    if len(filled) < 2:
        raise NotEstimableError(f"all {len(frame)} patients have the same value of {by!r}: there are no groups")
    return [m for m, _ in filled], tuple(_label(level) for _, level in filled)


def _levels(name: str, column: pd.Series, order: Sequence[Any] | None) -> list[Any]:
    present = column.dropna().unique().tolist()
    if order is None:
        try:
            return sorted(present)
        except TypeError as error:
            raise InvalidInputError(f"the levels of {name!r} are of mixed type: {present}") from error
    outside = [level for level in present if level not in order]
    if outside:
        raise InvalidInputError(f"{name!r} holds {outside}, not among its levels {list(order)}")
    return list(order)


def _label(level: object) -> str:
    return str(int(level)) if isinstance(level, float) and level.is_integer() else str(level)


def _numbers(column: pd.Series) -> Array:
    try:
        x = column.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"number {column.name!r} holds text: {error}") from error
    if np.isinf(x).any():
        raise InvalidInputError(f"number {column.name!r} holds {int(np.isinf(x).sum())} infinite values")
    return x


def _number_row(name: str, x: Array, members: list[NDArray[np.bool_]]) -> TableOneRow:
    given = x[~np.isnan(x)]
    samples = [x[m & ~np.isnan(x)] for m in members]
    normal = all(_is_normal(s) for s in (samples or [given]))
    p, test = _compare_numbers(samples, normal) if samples else (None, "")
    cells = [_summary(s, normal, _decimals(given)) for s in (given, *samples)]
    smd = _mean_over_pairs(smd_number, samples)
    return TableOneRow(name, "", cells[0], tuple(cells[1:]), p, test, smd, int(np.isnan(x).sum()))


def _is_normal(x: Array) -> bool:
    if x.size == 0:
        return False
    try:
        return shapiro(x).p >= 0.05
    except NotEstimableError:
        return False


def _compare_numbers(samples: list[Array], normal: bool) -> tuple[float | None, str]:
    empty = sum(s.size == 0 for s in samples)
    if empty:
        return None, f"none: no value in {empty} group{'s' if empty > 1 else ''}"
    try:
        if normal:
            return (t_test(*samples).p, "Welch t") if len(samples) == 2 else (anova(samples).p, "Welch ANOVA")
        if len(samples) == 2:
            result = mann_whitney(*samples)
            return result.p, f"Mann-Whitney ({result.method})"
        return kruskal_wallis(samples).p, "Kruskal-Wallis"
    except NotEstimableError as error:
        return None, f"none: {error.what}"


def _category_rows(
    name: str, column: pd.Series, order: Sequence[Any] | None, members: list[NDArray[np.bool_]], seed: int
) -> list[TableOneRow]:
    levels = _levels(name, column, order)
    missing = int(column.isna().sum())
    if not levels:
        return [TableOneRow(name, "", "–", ("–",) * len(members), None, "none: no value", None, missing)]
    is_level = np.stack([(column == level).to_numpy(dtype=bool, na_value=False) for level in levels])
    counts = np.array([[int((row & m).sum()) for m in members] for row in is_level], dtype=np.int64)
    counts = counts.reshape(len(levels), len(members))
    overall = is_level.sum(axis=1)
    p, test = _compare_counts(counts, seed) if members else (None, "")
    smd = _mean_over_pairs(smd_category, list(counts.T))
    rows = []
    for k, level in enumerate(levels):
        cells = [_share(int(c), int(total)) for c, total in zip(counts[k], counts.sum(axis=0), strict=True)]
        first = k == 0
        rows.append(
            TableOneRow(
                name,
                _label(level),
                _share(int(overall[k]), int(overall.sum())),
                tuple(cells),
                p if first else None,
                test if first else "",
                smd if first else None,
                missing if first else None,
            )
        )
    return rows


def _compare_counts(counts: NDArray[np.int64], seed: int) -> tuple[float | None, str]:
    table = counts[counts.sum(axis=1) > 0]
    empty = int((table.sum(axis=0) == 0).sum())
    if empty:
        return None, f"none: no value in {empty} group{'s' if empty > 1 else ''}"
    if len(table) < 2:
        return None, "none: one level only"
    result = chi_square(table)
    if result.min_expected >= 5:
        return result.p, "chi-square"
    exact = fisher_exact(table, seed=seed)
    return exact.p, "Fisher" if exact.method == "exact" else f"Fisher (Monte Carlo, SE {exact.se:.4f})"


def _mean_over_pairs(difference: Any, samples: Sequence[ArrayLike]) -> float | None:
    try:
        values = [abs(difference(a, b)) for a, b in combinations(samples, 2)]
    except NotEstimableError:
        return None
    return float(np.mean(values)) if values else None


def _decimals(x: Array) -> int:
    """Decimals that show three significant digits of the spread (SD, or less where outliers make it), at most four."""
    if x.size < 2 or np.ptp(x) == 0:
        return 1
    quartiles = float(np.subtract(*np.quantile(x, [0.75, 0.25]))) / 1.349
    sd = float(x.std(ddof=1))
    return min(4, max(0, 2 - floor(log10(min(sd, quartiles) if quartiles > 0 else sd))))


def _summary(x: Array, normal: bool, decimals: int) -> str:
    if x.size == 0:
        return "–"
    if normal:
        return f"{x.mean():.{decimals}f} ± {x.std(ddof=1):.{decimals}f}"
    low, middle, high = np.quantile(x, [0.25, 0.5, 0.75])
    return f"{middle:.{decimals}f} [{low:.{decimals}f}, {high:.{decimals}f}]"


def _share(count: int, total: int) -> str:
    return f"{count} ({100 * count / total:.1f}%)" if total else "–"
