"""One result per input row: probabilities, of classes the predicted one and the prediction set, what was missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from osml.cohort.table import Table
from osml.predictors.contract import NO_INTERVAL, Prediction
from osml.serving.form import FormTable
from osml.serving.reading import Reading


@dataclass(frozen=True)
class Row:
    """What became of one input row: `status` is "ok" or why there is no prediction.

    p : one per column of the model: the event, horizons, or every class and inner node
    predicted : of classes the most probable one; "" otherwise, and where there is no prediction
    inside : classes in the prediction set; None where the model makes none
    missing : inputs that were not given and for which a network has learned values
    gates : modality → weight, where the network weighs them
    """

    line: int
    unit: str
    status: str
    p: tuple[float, ...] = ()
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None
    interval: str = ""
    lp: float | None = None
    imputed: tuple[str, ...] = ()
    extrapolated: tuple[str, ...] = ()
    patient: str = ""
    predicted: str = ""
    inside: tuple[str, ...] | None = None
    missing: tuple[str, ...] = ()
    gates: Mapping[str, float] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether there is a prediction."""
        return self.status == "ok"

    @property
    def undecided(self) -> bool:
        """Whether the prediction set does not hold exactly one class."""
        return self.inside is not None and len(self.inside) != 1


def rows_of(
    table: Table,
    reading: Reading,
    prediction: Prediction | None,
    columns: tuple[str, str],
    leaves: Sequence[str],
    hidden: bool,
) -> list[Row]:
    """One result for every row of a table, in its order.

    Parameters
    ----------
    prediction : of the usable units, in their order
    columns : of the row's name and of the patient's
    leaves : exclusive classes of a target that has them
    hidden : whether probabilities are withheld
    """
    names, patients = (_texts(table, column) for column in columns)
    place = {unit: k for k, unit in enumerate(reading.usable)}
    flags: dict[str, dict[str, list[str]]] = {}
    for flag in prediction.flags if prediction is not None else ():
        flags.setdefault(flag.unit, {}).setdefault(flag.code, []).append(flag.input)
    out = []
    for i, text in enumerate(reading.status):
        unit = int(reading.units.of[i])
        k = place.get(unit)
        if k is None or prediction is None or text != "ok":
            out.append(Row(table.lines[i], names[i], text, patient=patients[i]))
            continue
        out.append(_row(prediction, k, flags.get(str(unit), {}), leaves, hidden, table.lines[i], names[i], patients[i]))
    return out


def _row(
    prediction: Prediction,
    k: int,
    flags: Mapping[str, Sequence[str]],
    leaves: Sequence[str],
    hidden: bool,
    line: int,
    name: str,
    patient: str,
) -> Row:
    bounds = prediction.low is not None and prediction.high is not None and not hidden
    p = tuple(float(x) for x in prediction.p[k])
    sets = {key.removeprefix("set:"): x[k] > 0.5 for key, x in prediction.extras.items() if key.startswith("set:")}
    by_name = dict(zip(prediction.columns, p, strict=True))
    return Row(
        line=line,
        unit=name,
        status="ok",
        p=() if hidden else p,
        low=tuple(float(x) for x in prediction.low[k]) if bounds and prediction.low is not None else None,
        high=tuple(float(x) for x in prediction.high[k]) if bounds and prediction.high is not None else None,
        interval=NO_INTERVAL if hidden else prediction.interval,
        lp=float(prediction.lp[k]) if prediction.lp.ndim == 1 else None,
        imputed=tuple(flags.get("imputed", ())),
        extrapolated=tuple(flags.get("extrapolated", ())),
        patient=patient,
        predicted=max(leaves, key=lambda leaf: by_name[leaf]) if leaves else "",
        inside=tuple(c for c, here in sets.items() if here) if sets and not hidden else None,
        missing=tuple(dict.fromkeys(flags.get("missing", ()))),
        gates={key.removeprefix("gate:"): float(x[k]) for key, x in prediction.extras.items() if key[:5] == "gate:"},
    )


def _texts(table: Table, column: str) -> Sequence[str]:
    found = column in table.columns and not isinstance(table, FormTable)
    return table.column(column) if found else [""] * len(table.rows)
