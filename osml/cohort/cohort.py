"""The cohort: an immutable typed table of units (patients, or rows of patients), with outcome and exclusions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osml.errors import InvalidInputError
from osml.stats.tree import LabelTree

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


@dataclass(frozen=True)
class ClassOutcome:
    """node: position of each unit's label in `tree.nodes`; an inner node is a label that stops there."""

    node: NDArray[np.intp]
    tree: LabelTree

    def take(self, index: NDArray[np.intp]) -> ClassOutcome:
        return replace(self, node=self.node[index])

    @property
    def labels(self) -> tuple[str, ...]:
        """Name of each unit's node."""
        return tuple(self.tree.nodes[k] for k in self.node)

    @property
    def full(self) -> NDArray[np.bool_]:
        """Units whose label is a leaf: those that measures of classes are computed on."""
        return np.isin(self.node, [self.tree.nodes.index(name) for name in self.tree.leaves])


EventOutcome = BinaryOutcome | SurvivalOutcome
Outcome = EventOutcome | ClassOutcome


@dataclass(frozen=True)
class ImageTable:
    """What a frozen encoder, or only a decoder, made of each unit's images: label-free, nothing of another unit in it.

    stored : array (t, …) of all images, or the .npy file that holds it: workers read the file, not a copy that is sent
    item : positions in `stored` of the images that belong to these units, (m,)
    row : unit of each, (m,), not decreasing; a unit that is absent here has no image
    """

    stored: NDArray[Any] | Path
    item: NDArray[np.intp]
    row: NDArray[np.intp]

    def take(self, index: NDArray[np.intp]) -> ImageTable:
        """The images of the units at these positions, in that order; a unit drawn twice has its images twice."""
        first = np.searchsorted(self.row, index)
        count = np.searchsorted(self.row, index, side="right") - first
        row = np.repeat(np.arange(len(index)), count)
        place = np.repeat(first - (np.cumsum(count) - count), count) + np.arange(len(row))
        return replace(self, item=self.item[place], row=row)

    def shape(self) -> tuple[int, ...]:
        """Shape of all that is stored, which does not have to be read for it."""
        if isinstance(self.stored, Path):
            return tuple(np.load(self.stored, mmap_mode="r", allow_pickle=False).shape)
        return tuple(self.stored.shape)

    def values(self) -> NDArray[Any]:
        """The images' vectors or pixels, (m, …), in the order of `row`."""
        if isinstance(self.stored, Path):
            return np.asarray(np.load(self.stored, mmap_mode="r", allow_pickle=False)[self.item])
        return self.stored[self.item]


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
    several : image input with `several: true` → the paths of each unit
    images : what networks read, by `osml.features.images.ImagePlan.key`
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
    several: Mapping[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)
    images: Mapping[str, ImageTable] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.units)

    @property
    def has_event(self) -> bool:
        """Whether the outcome is an event, binary or over time, rather than a class."""
        return isinstance(self.outcome, BinaryOutcome | SurvivalOutcome)

    @property
    def event_outcome(self) -> EventOutcome:
        """The outcome of a target with an event, binary or survival: what regressions and Rad-scores are fitted to."""
        if not isinstance(self.outcome, BinaryOutcome | SurvivalOutcome):
            raise InvalidInputError("this needs a binary or survival outcome")
        return self.outcome

    def paths(self, name: str) -> tuple[tuple[str, ...], ...]:
        """Paths of an image input for each unit; none where it is missing."""
        if name in self.several:
            return self.several[name]
        return tuple((path,) if path else () for path in self.files[name])

    def outcome_groups(self) -> dict[str, NDArray[np.bool_]]:
        """Each outcome and the units that have it: the event and its absence, or the classes that occur."""
        outcome = self.outcome
        if isinstance(outcome, ClassOutcome):
            nodes = outcome.tree.nodes
            return {nodes[k]: outcome.node == k for k in range(len(nodes)) if (outcome.node == k).any()}
        yes, no = (outcome.positive, outcome.negative) if isinstance(outcome, BinaryOutcome) else ("event", "no event")
        event = self.event_outcome.event
        return {yes: event, no: ~event}

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

    def with_features_of(self, inputs: Iterable[str], images: Iterable[str] = ()) -> Cohort:
        """Only the features that these inputs name, and these images: a task is sent no more than it needs."""
        wanted, keys = set(inputs), set(images)
        return replace(
            self,
            features={name: table for name, table in self.features.items() if name in wanted},
            images={key: table for key, table in self.images.items() if key in keys},
        )

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
            several={name: tuple(paths[i] for i in index) for name, paths in self.several.items()},
            images={name: table.take(index) for name, table in self.images.items()},
        )
