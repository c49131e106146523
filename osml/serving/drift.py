"""Whether what is predicted looks like what the model was trained on: counts only, by month, no row of a patient.

Counts stand in the database of the audit log: how many predictions of a month fell into each cell of the bundle's
training counts. Until a month holds `MIN_N` predictions nothing of it is shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from scipy import special
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from osml.cohort.inputs import parse_inputs
from osml.cohort.table import Table
from osml.evaluation.multiplicity import holm
from osml.serving.database import COUNTS, failed, opened
from osml.serving.form import FormTable, form_schema, reading_schema
from osml.serving.model import Model
from osml.serving.rows import Row
from osml.serving.training_counts import MISSING, NAME, VERSION, cell_names, cells_of

MIN_N = 20
DRAWS = 2000
SEED = 20240501
LEVEL = 0.05
MARKED = 0.1  # population stability index from which a difference is worth a look
MEDIUM = 0.3  # Cohen's w, the size of difference for which power is stated
ROWS, OUTSIDE = "rows", "outside "


@dataclass(frozen=True)
class Comparison:
    """One input, or the predictions, beside training.

    names, training, new : cells and the share of each
    n : predictions counted; missing_training is None where 1 to 9 were missing
    psi, chance : population stability index, and what it would be about without any difference
    p : adjusted over all comparisons (Holm); NaN where nothing was tested
    power : chance to notice a difference of medium size (Cohen's w 0.3)
    """

    name: str
    label: str
    names: tuple[str, ...]
    training: tuple[float, ...]
    new: tuple[float, ...]
    n: int
    missing_training: float | None
    missing_new: float
    outside: float | None
    psi: float
    chance: float
    p: float
    power: float

    @property
    def verdict(self) -> str:
        """In words: differs, no difference found, or too few to tell."""
        if self.p < LEVEL and self.psi >= MARKED:
            return "differs from training"
        return "looks like training" if self.power >= 0.8 else "no difference found, but too few to tell"


@dataclass(frozen=True)
class Drift:
    """What is known of a model's predictions in some months; `why` says why nothing is shown."""

    n: int
    refused: int
    why: str = ""
    comparisons: tuple[Comparison, ...] = ()

    @property
    def differing(self) -> tuple[Comparison, ...]:
        """Those that differ from training."""
        return tuple(one for one in self.comparisons if one.verdict.startswith("differs"))


def training_of(model: Model) -> dict[str, Any] | None:
    """The training counts in the model's bundle; None in bundles without them, or with those of a newer osml."""
    name = f"predictors/{model.name}/{NAME}"
    if name not in model.bundle.manifest["files"]:
        return None
    found = model.bundle.read(name)
    return cast("dict[str, Any]", found) if found.get("version") == VERSION else None


def count(engine: Engine, model: Model, table: Table, rows: Sequence[Row]) -> None:
    """Add predictions to the counts of this month, all or none of them.

    Raises
    ------
    AuditError
        The database cannot be written.
    """
    training = training_of(model)
    if training is None:
        return
    found = _counted(model, training, table, rows)
    key = {"month": datetime.now(UTC).strftime("%Y-%m"), "bundle": model.bundle.model_hash, "predictor": model.name}
    try:
        with engine.begin() as connection:
            # In one order everywhere, so that two writers cannot wait for each other.
            for (variable, cell), n in sorted(found.items()):
                _add(connection, key | {"variable": variable[:200], "cell": cell}, n)
    except SQLAlchemyError as error:
        raise failed("written", error, "Nothing is shown that is not counted. Tell whoever runs this server.") from None


def months_of(url: str, model: Model) -> list[str]:
    """Months with predictions of this model, the newest first."""
    query = sa.select(COUNTS.c.month).where(*_of(model)).distinct().order_by(COUNTS.c.month.desc())
    return [str(month) for (month,) in _read(url, query)]


def drift(url: str, model: Model, months: Sequence[str]) -> Drift:
    """Compare what was predicted in some months with training; small months are no difference of two answers."""
    training = training_of(model)
    if training is None:
        return Drift(0, 0, "This bundle has no training aggregates: it was made by an older or a newer osml.")
    months = _months_together(url, model, months)
    query = sa.select(COUNTS.c.variable, COUNTS.c.cell, sa.func.sum(COUNTS.c.n))
    query = query.where(*_of(model), COUNTS.c.month.in_(list(months))).group_by(COUNTS.c.variable, COUNTS.c.cell)
    found: dict[str, dict[str, int]] = {}
    for variable, cell, n in _read(url, query):
        found.setdefault(variable, {})[cell] = int(n)
    n, refused = (found.get(ROWS, {}).get(cell, 0) for cell in ("ok", "refused"))
    if n < MIN_N:
        return Drift(n if n else 0, 0, f"Fewer than {MIN_N} predictions were made: nothing is shown yet.")
    return Drift(n, refused, comparisons=_compared(model, training, found))


def _months_together(url: str, model: Model, months: Sequence[str]) -> list[str]:
    """Months that may be shown as one: those too small to be shown alone only where they are enough together.

    Otherwise the difference of two pages would be what the small ones hold.
    """
    query = sa.select(COUNTS.c.month, COUNTS.c.n)
    query = query.where(*_of(model), COUNTS.c.variable == ROWS, COUNTS.c.cell == "ok", COUNTS.c.month.in_(list(months)))
    n = {str(month): int(k) for month, k in _read(url, query)}
    small = [month for month in months if n.get(month, 0) < MIN_N]
    if len(small) < len(months) and sum(n.get(month, 0) for month in small) < MIN_N:
        return [month for month in months if month not in small]
    return list(months)


def _of(model: Model) -> list[Any]:
    return [COUNTS.c.bundle == model.bundle.model_hash, COUNTS.c.predictor == model.name]


def _read(url: str, query: Any) -> list[Any]:
    try:
        with opened(url).connect() as connection:
            return list(connection.execute(query))
    except SQLAlchemyError as error:
        raise failed("read", error, "Tell whoever runs this server.") from None


def _counted(model: Model, training: Mapping[str, Any], table: Table, rows: Sequence[Row]) -> Counter[tuple[str, str]]:
    """(variable, cell) → predictions; of a patient with several rows the first one counts."""
    out: Counter[tuple[str, str]] = Counter()
    out[ROWS, "refused"] = sum(not row.ok for row in rows)
    used, seen = [], set()
    for i, row in enumerate(rows):
        repeated = model.schema.cohort.row is None and row.unit != "" and row.unit in seen
        if row.ok and not repeated:
            used.append(i)
            seen.add(row.unit)
    out[ROWS, "ok"] = len(used)
    schema = reading_schema(model.schema, model.name)
    schema = form_schema(schema) if isinstance(table, FormTable) else schema
    parsed = parse_inputs(schema, table, lambda *path: ".".join(map(str, path)), list(training["inputs"]))
    for name, block in training["inputs"].items():
        out.update((name, cell) for cell in cells_of(block, parsed.values[name][used]))
        out[OUTSIDE + name, "yes"] = sum(name in rows[i].extrapolated for i in used)
    for k, column in enumerate(model.columns):
        if column in training["predictions"] and not model.withheld:
            values = np.array([rows[i].p[k] for i in used], dtype=np.float64)
            out.update((f"p: {column}", cell) for cell in cells_of(training["predictions"][column], values))
    return +out


def _add(connection: Connection, key: Mapping[str, str], n: int) -> None:
    dialect = connection.dialect.name
    if dialect in ("sqlite", "postgresql"):
        insert = (sqlite if dialect == "sqlite" else postgresql).insert(COUNTS).values(**key, n=n)
        keys = [column.name for column in COUNTS.primary_key]
        connection.execute(insert.on_conflict_do_update(index_elements=keys, set_={"n": COUNTS.c.n + n}))
        return
    update = sa.update(COUNTS).where(*(COUNTS.c[name] == value for name, value in key.items())).values(n=COUNTS.c.n + n)
    if connection.execute(update).rowcount:
        return
    try:
        with connection.begin_nested():
            connection.execute(COUNTS.insert().values(**key, n=n))
    except IntegrityError:  # somebody else was first
        connection.execute(update)


def _compared(
    model: Model, training: Mapping[str, Any], found: Mapping[str, Mapping[str, int]]
) -> tuple[Comparison, ...]:
    fields = {field.name: field for field in model.form()}
    blocks = [(name, model.label(name), block) for name, block in training["inputs"].items()]
    blocks += [(f"p: {column}", f"Predicted: {column}", block) for column, block in training["predictions"].items()]
    raw = []
    for name, label, block in blocks:
        levels = fields[name].levels if name in fields else ()
        counts = found.get(name, {})
        old = np.array(block["counts"], dtype=np.int64)
        new = np.array([counts.get(str(k), 0) for k in range(len(old))], dtype=np.int64)
        gone, known = counts.get(MISSING, 0), block["missing"]
        n = int(new.sum()) + gone
        # Missing is one more cell where its training count is known.
        tested = (np.append(old, known), np.append(new, gone)) if known is not None and known + gone else (old, new)
        if not n or not tested[1].sum():
            continue
        share = np.asarray(old / old.sum()), np.asarray(new / max(1, new.sum()))
        outside = found.get(OUTSIDE + name, {}).get("yes", 0) / n if name in training["inputs"] else None
        raw.append((name, label, tuple(cell_names(block, levels)), share, n, known, gone, outside, old, tested))
    p = holm([_p_value(old, new) for *_, (old, new) in raw]) if raw else np.empty(0)
    out = []
    for (name, label, names, share, n, known, gone, outside, old, tested), adjusted in zip(raw, p, strict=True):
        psi, chance = _psi(*tested)
        missing = None if known is None else known / (int(old.sum()) + known)
        out.append(
            Comparison(
                name, label, names, tuple(share[0].tolist()), tuple(share[1].tolist()), n, missing, gone / n, outside,
                psi, chance, float(adjusted), _power(tested[0], tested[1], len(raw)),
            )
        )  # fmt: skip
    return tuple(out)


def _psi(old: NDArray[np.int64], new: NDArray[np.int64]) -> tuple[float, float]:
    """Population stability index with half a patient added to each cell, and about its mean without a difference."""
    k = len(old)
    p, q = (old + 0.5) / (old.sum() + k / 2), (new + 0.5) / (new.sum() + k / 2)
    return float(np.sum((q - p) * np.log(q / p))), float((k - 1) * (1 / old.sum() + 1 / new.sum()))


def _p_value(old: NDArray[np.int64], new: NDArray[np.int64]) -> float:
    """Permutation test of Pearson's statistic: whose label is "new" is drawn anew, so small cells do no harm."""
    both = old + new
    used = both > 0
    both, n = both[used], int(new.sum())
    expected = both * n / both.sum()

    def statistic(x: NDArray[Any]) -> NDArray[np.float64]:
        # The training row deviates by as much; its part of the statistic only scales it.
        return np.asarray(((x - expected) ** 2 / expected).sum(axis=-1))

    drawn = np.random.default_rng(SEED).multivariate_hypergeometric(both, n, size=DRAWS, method="marginals")
    larger = int((statistic(drawn) >= statistic(new[used]) * (1 - 1e-12)).sum())
    return (1 + larger) / (1 + DRAWS)


def _power(old: NDArray[np.int64], new: NDArray[np.int64], tests: int) -> float:
    """Chance to find a difference of medium size with so many patients, at the level that so many tests leave."""
    df = int(((old + new) > 0).sum()) - 1
    if df < 1:
        return 0.0
    n = 1 / (1 / old.sum() + 1 / new.sum())
    bound = special.chdtri(df, LEVEL / tests)
    return float(1 - special.chndtr(bound, df, MEDIUM**2 * n))
