"""Units of laboratory values and measurements, and the factor between two of one kind.

Only units of one physical kind convert. Mass against amount of substance (mg/dL ↔ mmol/L) depends on the analyte and
is refused rather than guessed.
"""

from __future__ import annotations

from osml.errors import TableError
from osml.schema.suggest import hint

# kind → unit → size in the kind's base unit. 1 U = 1 µmol/min, so 1 µkat/L = 60 U/L.
_KINDS: dict[str, dict[str, float]] = {
    "catalytic concentration": {
        "U/L": 1.0, "IU/L": 1.0, "U/mL": 1e3, "kU/L": 1e3, "mU/mL": 1.0, "mU/L": 1e-3, "U/dL": 10.0,
        "µkat/L": 60.0, "nkat/L": 0.06, "mkat/L": 6e4, "kat/L": 6e7,
    },
    "mass concentration": {
        "g/L": 1.0, "g/dL": 10.0, "mg/dL": 0.01, "mg/L": 1e-3, "µg/L": 1e-6, "µg/dL": 1e-5, "mg/mL": 1.0,
        "µg/mL": 1e-3, "ng/mL": 1e-6, "ng/dL": 1e-8, "ng/L": 1e-9, "pg/mL": 1e-9,
    },
    "substance concentration": {
        "mol/L": 1.0, "mmol/L": 1e-3, "µmol/L": 1e-6, "nmol/L": 1e-9, "pmol/L": 1e-12, "mEq/L": 1e-3,
    },
    "number concentration": {
        "10^9/L": 1.0, "10^3/µL": 1.0, "10^12/L": 1e3, "10^6/µL": 1e3, "/µL": 1e-3, "/nL": 1.0, "G/L": 1.0,
    },
    "length": {"mm": 1.0, "cm": 10.0, "m": 1e3, "µm": 1e-3, "inch": 25.4},
    "volume": {"mL": 1.0, "cm³": 1.0, "L": 1e3, "mm³": 1e-3},
    "mass": {"kg": 1.0, "g": 1e-3, "mg": 1e-6, "lb": 0.45359237},
    "time": {"year": 1.0, "month": 1.0 / 12.0, "week": 7.0 / 365.25, "day": 1.0 / 365.25},
    "share": {"1": 1.0, "%": 0.01},
}  # fmt: skip

_SPELLINGS = {"u/l": "U/L", "iu/l": "IU/L", "ukat/l": "µkat/L", "µkat/l": "µkat/L", "years": "year", "months": "month"}
_SPELLINGS |= {"weeks": "week", "days": "day", "cm3": "cm³", "mm3": "mm³", "ml": "mL", "l": "L", "x10^9/l": "10^9/L"}


def _canonical(unit: str) -> str:
    # Greek mu (U+03BC) and "u" both stand for the micro sign (U+00B5).
    text = unit.strip().replace("\u03bc", "\u00b5").replace("⁹", "^9").replace("e9/", "^9/")
    if text.lower() in _SPELLINGS:
        return _SPELLINGS[text.lower()]
    for known in (name for kind in _KINDS.values() for name in kind):
        if text == known or text == known.replace("µ", "u"):
            return known
    return text


def conversion_factor(source: str, target: str, where: str) -> float:
    """Factor that turns a value in `source` into `target`.

    >>> conversion_factor("µkat/L", "U/L", "study.yaml:3")
    60.0

    Raises
    ------
    TableError
        Unknown unit, or units of different kinds.
    """
    a, b = _canonical(source), _canonical(target)
    if a == b:
        return 1.0
    kinds = {name: kind for kind, units in _KINDS.items() for name in units}
    for unit in (a, b):
        if unit not in kinds:
            raise TableError(f"{where}: unit {unit!r} is not known, so it cannot be converted", do=hint(unit, kinds))
    if kinds[a] != kinds[b]:
        raise TableError(
            f"{where}: {source!r} is a {kinds[a]}, {target!r} a {kinds[b]}: one cannot become the other",
            why="Between mass and amount of substance the factor depends on the analyte.",
            do="Convert the column yourself and state the unit it is then in.",
        )
    return _KINDS[kinds[a]][a] / _KINDS[kinds[b]][b]


def units_like(unit: str) -> tuple[str, ...]:
    """The unit itself, then all units that convert to it.

    >>> units_like("cm")
    ('cm', 'mm', 'm', 'µm', 'inch')
    """
    own = _canonical(unit)
    kind = next((units for units in _KINDS.values() if own in units), {})
    return (unit, *(other for other in kind if other != own))


# Units that one hospital or another prints: offered beside each other where a value is typed in.
_OFFERED = (("U/L", "µkat/L"), ("g/L", "g/dL"), ("mg/L", "mg/dL"), ("mm", "cm"))


def other_units(unit: str, where: str = "") -> tuple[tuple[str, float], ...]:
    """(name, factor) of the units offered beside `unit`: value in that unit = factor × value in `unit`.

    >>> other_units("U/L")
    (('µkat/L', 0.016666666666666666),)
    """
    own = _canonical(unit)
    names = [name for pair in _OFFERED if own in pair for name in pair if name != own]
    return tuple((name, conversion_factor(own, name, where)) for name in names)
