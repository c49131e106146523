"""The cohort: an immutable typed table of units (patients, or rows of patients), with outcome and exclusions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from osml.errors import InvalidInputError

Float = NDArray[np.float64]


@dataclass(frozen=True)
class BinaryOutcome:
    """y: 1.0 = event, 0.0 = none, one entry per unit."""

    y: Float
    positive: str
    negative: str

    def take(self, index: NDArray[np.intp]) -> BinaryOutcome:
        return replace(self, y=self.y[index])

    @property
    def event(self) -> NDArray[np.bool_]:
        return self.y == 1.0


@dataclass(frozen=True)
class SurvivalOutcome:
    """time: follow-up in `unit`, above 0; event: True = it happened at `time`, False = censored there."""

    time: Float
    event: NDArray[np.bool_]
    unit: str
    horizons: tuple[float, ...]
    competing: NDArray[np.bool_] | None = None

    def take(self, index: NDArray[np.intp]) -> SurvivalOutcome:
        competing = None if self.competing is None else self.competing[index]
        return replace(self, time=self.time[index], event=self.event[index], competing=competing)


Outcome = BinaryOutcome | SurvivalOutcome


@dataclass(frozen=True)
class FeatureTable:
    """Features computed from each unit's own images, label-free: nothing about another unit is in a row.

    columns : names
    x : (n, p); NaN where a feature does not exist for a unit
    readings : (n, p, k), the same features from k other segmentations (a second reader, perturbed masks); NaN rows
        where a unit was not read again; None without stability
    """

    columns: tuple[str, ...]
    x: Float
    readings: Float | None = None

    def take(self, index: NDArray[np.intp]) -> FeatureTable:
        readings = None if self.readings is None else self.readings[index]
        return replace(self, x=self.x[index], readings=readings)


@dataclass(frozen=True)
class Exclusion:
    """A patient who is not in the cohort, and why."""

    patient: str
    reason: str
    where: str


@dataclass(frozen=True)
class Cohort:
    """Units with typed values. Order is that of the table; nothing in it ever changes.

    Parameters
    ----------
    units : names, one per unit: patient ids, or row ids where prediction is per row
    patients : the patient of each unit
    copies : 0, or the number of the copy in a resampled cohort
    values : input → float array (n,); level positions for categories; NaN = missing
    kit : lab → (low, high) arrays (n,) in the lab's unit
    keys : column → texts (n,), for splits and checks (site, group, date, hold-out)
    outcome : None for rows to predict
    files : image input, or `input.mask` and alike → path of each unit as the table gives it, "" = missing
    features : radiomics input → its features
    """

    units: tuple[str, ...]
    patients: tuple[str, ...]
    copies: NDArray[np.intp]
    values: Mapping[str, Float]
    kit: Mapping[str, tuple[Float, Float]]
    keys: Mapping[str, tuple[str, ...]]
    outcome: Outcome | None
    per_row: bool = False
    exclusions: tuple[Exclusion, ...] = ()
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    features: Mapping[str, FeatureTable] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.units)

    @property
    def patient_ids(self) -> tuple[str, ...]:
        """Each patient once, in the order of the table."""
        return tuple(dict.fromkeys(self.patients))

    @property
    def clustered(self) -> bool:
        """Whether some patient has several rows: intervals that take rows as independent are then too narrow."""
        return len(set(self.patients)) < len(self.patients)

    def of(self, patients: Iterable[str]) -> Cohort:
        """The units of these patients, in the cohort's own order; an unknown patient is an error."""
        wanted = set(patients)
        unknown = wanted - set(self.patients)
        if unknown:
            raise InvalidInputError(f"{len(unknown)} patients are not in the cohort: {sorted(unknown)[:5]}")
        return self._take(np.array([i for i, p in enumerate(self.patients) if p in wanted], dtype=np.intp), self.copies)

    def resample(self, draws: Sequence[int] | NDArray[np.intp]) -> Cohort:
        """Patients drawn with multiplicity: position k of `patient_ids` drawn twice gives two copies of all its units.

        `patients` keeps the original id, so grouping by it keeps copies of a patient on one side of any inner fold.
        """
        positions: dict[str, list[int]] = {}
        for i, patient in enumerate(self.patients):
            positions.setdefault(patient, []).append(i)
        ids = self.patient_ids
        seen: dict[int, int] = {}
        index: list[int] = []
        copies: list[int] = []
        for draw in np.asarray(draws, dtype=np.intp).tolist():
            if not 0 <= draw < len(ids):
                raise InvalidInputError(f"draw {draw} is not a position of the {len(ids)} patients")
            copy = seen.get(draw, 0)
            seen[draw] = copy + 1
            rows = positions[ids[draw]]
            index += rows
            copies += [copy] * len(rows)
        return self._take(np.array(index, dtype=np.intp), np.array(copies, dtype=np.intp), gathered=True)

    def take(self, index: NDArray[np.intp]) -> Cohort:
        """The units at these positions."""
        return self._take(index, self.copies)

    def excluding(self, gone: NDArray[np.bool_], lost: Iterable[Exclusion]) -> Cohort:
        """Without the units that `gone` marks; `lost` says who they are and why."""
        return replace(self.take(np.flatnonzero(~gone)), exclusions=(*self.exclusions, *lost))

    def with_features_of(self, inputs: Iterable[str]) -> Cohort:
        """Only the features that these inputs name: a task is sent no more than it needs."""
        wanted = set(inputs)
        return replace(self, features={name: table for name, table in self.features.items() if name in wanted})

    def without_outcome(self) -> Cohort:
        """The same units as a predictor sees them when it predicts."""
        return replace(self, outcome=None)

    def _take(self, index: NDArray[np.intp], copies: NDArray[np.intp], gathered: bool = False) -> Cohort:
        return replace(
            self,
            units=tuple(self.units[i] for i in index),
            patients=tuple(self.patients[i] for i in index),
            copies=copies if gathered else copies[index],
            values={name: column[index] for name, column in self.values.items()},
            kit={name: (low[index], high[index]) for name, (low, high) in self.kit.items()},
            keys={name: tuple(texts[i] for i in index) for name, texts in self.keys.items()},
            outcome=None if self.outcome is None else self.outcome.take(index),
            files={name: tuple(paths[i] for i in index) for name, paths in self.files.items()},
            features={name: table.take(index) for name, table in self.features.items()},
        )
