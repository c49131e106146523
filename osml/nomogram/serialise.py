"""A nomogram as JSON and back: every coefficient at full precision, deterministic bytes, verified on load.

The format is documented in `docs/nomogram.schema.json`; it is enough for another program, R included, to rebuild
the axes and the probability.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import Any

import numpy as np

from osml.errors import InvalidInputError, VerificationError
from osml.nomogram.algebra import Nomogram, TotalRange
from osml.nomogram.build import build
from osml.nomogram.interval import Interval
from osml.nomogram.metadata import NOTICE
from osml.nomogram.spec import CoxOutcome, Histogram, LogisticOutcome, Outcome, Predictor, Unit
from osml.nomogram.verify import check_golden, golden
from osml.stats.terms import LinearModel, design_columns, term_from_dict, term_to_dict

FORMAT = "osml.nomogram"
VERSION = 1


def to_dict(nomogram: Nomogram) -> dict[str, Any]:
    """The JSON form as plain Python objects."""
    m, t = nomogram.model, nomogram.training_totals
    return {
        "format": FORMAT,
        "version": VERSION,
        "notice": NOTICE,
        "outcome": {"kind": nomogram.outcome.kind, **_plain(nomogram.outcome)},
        "predictors": [_plain(p) for p in nomogram.predictors],
        "model": {
            "terms": [term_to_dict(term) for term in m.terms],
            "columns": list(design_columns(m.terms)),
            "coef": [float(b) for b in m.coef],
            "intercept": float(m.intercept),
            "covariance": None if m.covariance is None else np.asarray(m.covariance, dtype=np.float64).tolist(),
        },
        "points": {
            "scale": nomogram.scale,
            "intercept": nomogram.intercept,
            "extremes": nomogram.extremes,
            "components": [
                {
                    "inputs": list(c.inputs),
                    "minimum": c.minimum,
                    "maximum": c.maximum,
                    "axes": [
                        {
                            "input": a.input,
                            "settings": dict(a.settings),
                            "ticks": list(a.ticks),
                            "minor": list(a.minor),
                            "turns": list(a.turns),
                        }
                        for a in c.axes
                    ],
                }
                for c in nomogram.components
            ],
        },
        "training_totals": None if t is None else asdict(t),
        "interval": _interval(nomogram.interval),
        "metadata": dict(nomogram.metadata),
        "golden": golden(nomogram),
    }


def to_json(nomogram: Nomogram) -> str:
    """JSON text, the same for the same nomogram: sorted keys, shortest exact numbers, final newline."""
    return json.dumps(to_dict(nomogram), sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def from_json(text: str) -> Nomogram:
    """Read a nomogram and check it against the ticks and cases stored with it.

    Raises
    ------
    InvalidInputError
        Not JSON, not a nomogram, or a newer version of the format.
    VerificationError
        Its model does not reproduce the stored points and probabilities.
    """
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidInputError(f"not JSON: {error}") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise InvalidInputError(f"not a nomogram: 'format' is not {FORMAT!r}")
    if data.get("version") != VERSION:
        raise InvalidInputError(
            f"nomogram format version {data.get('version')!r}; this library reads version {VERSION}",
            do="Update osml, or make the nomogram again.",
        )
    try:
        nomogram = _read(data)
        stored = data["points"], data["golden"], data["notice"]
    except KeyError as error:
        raise InvalidInputError(f"the nomogram file lacks {error.args[0]!r}") from error
    points, cases, notice = stored
    if notice != NOTICE:
        raise VerificationError("the research-use notice of the nomogram file was changed")
    for name in ("scale", "intercept"):
        found, kept = getattr(nomogram, name), points[name]
        if not abs(found - kept) <= 1e-9 * max(1.0, abs(kept)):
            raise VerificationError(
                f"points {name}: the model gives {found!r}, the file stores {kept!r}",
                do="Make the nomogram again from its run.",
            )
    check_golden(nomogram, cases)
    return nomogram


def _read(data: dict[str, Any]) -> Nomogram:
    from dataclasses import replace

    m = data["model"]
    model = LinearModel(
        tuple(term_from_dict(t) for t in m["terms"]),
        np.asarray(m["coef"], dtype=np.float64),
        float(m["intercept"]),
        None if m["covariance"] is None else np.asarray(m["covariance"], dtype=np.float64),
    )
    interval = data["interval"]
    made = build(
        model,
        [_predictor(p) for p in data["predictors"]],
        _outcome(data["outcome"]),
        metadata=data["metadata"],
        interval=None if interval is None else Interval(**interval),
        extremes=data["points"]["extremes"],
    )
    totals = data["training_totals"]
    return made if totals is None else replace(made, training_totals=TotalRange(**totals))


def _plain(record: Any) -> dict[str, Any]:
    """Fields of a frozen dataclass as JSON types."""
    return {f.name: _jsonable(getattr(record, f.name)) for f in fields(record)}


def _jsonable(value: Any) -> Any:
    if isinstance(value, Histogram | Unit):
        return _plain(value)
    if isinstance(value, tuple):
        return [_jsonable(v) for v in value]
    if isinstance(value, np.generic):
        return value.item()
    return value


def _interval(interval: Interval | None) -> dict[str, Any] | None:
    if interval is None:
        return None
    arrays = ("refits", "refit_survival")
    return {
        f.name: value.tolist()
        if f.name in arrays and (value := getattr(interval, f.name)) is not None
        else getattr(interval, f.name)
        for f in fields(interval)
    }


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def _predictor(data: dict[str, Any]) -> Predictor:
    plain = {key: _tuples(value) for key, value in data.items() if key not in ("histogram", "units")}
    h = data.get("histogram")
    return Predictor(
        **plain,
        histogram=None if h is None else Histogram(_tuples(h["edges"]), _tuples(h["counts"])),
        units=tuple(Unit(**u) for u in data.get("units", [])),
    )


def _outcome(data: dict[str, Any]) -> Outcome:
    rest = {key: _tuples(value) for key, value in data.items() if key != "kind"}
    if data["kind"] == LogisticOutcome.kind:
        return LogisticOutcome(**rest)
    if data["kind"] == CoxOutcome.kind:
        return CoxOutcome(**rest)
    raise InvalidInputError(f"unknown outcome kind {data['kind']!r}")
