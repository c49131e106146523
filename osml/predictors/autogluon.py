"""Predictor `autogluon`: AutoGluon's weighted models, calibrated, as probabilities of the event or of every node."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from osml.cohort.cohort import Cohort
from osml.errors import RunError, VerificationError
from osml.evaluation.tree import node_probabilities
from osml.files import atomic_write, read_json, write_json
from osml.predictors.autogluon_calibration import Recalibration
from osml.predictors.autogluon_files import check_versions, revive
from osml.predictors.autogluon_frame import Frame, frame_from_json
from osml.predictors.contract import Design, Flag, Prediction
from osml.predictors.table import TableSpec, table_from_json
from osml.stats.sampling import prevalence_shift
from osml.stats.tree import LabelTree

Float = NDArray[np.float64]
FORMAT = 1
UNTRUSTED = "untrusted"
SMALLEST = 1e-12


@dataclass(frozen=True)
class FittedAutogluon:
    """A fitted AutoGluon predictor.

    columns : the event, or every node of the tree
    tree : of classes; None for a binary target
    frame : the table as AutoGluon reads it
    learnt : positions among the leaves of the classes it was taught, in the order of its outputs; binary: (0, 1)
    shares : of the leaves among the training units; binary: no event, event
    calibration : of AutoGluon's probabilities, learnt on out-of-fold ones
    restated : classes: probabilities hold for equal shares, since the sample was chosen by class
    prevalence : binary: added to the log odds, from the sample's share of events to a population's
    versions : of the packages that the files depend on
    files : AutoGluon's own, by relative path: pickles
    facts : how it was fitted: leaderboard, failures, importance, what was overridden; see `record`
    log : what AutoGluon said
    """

    name: str
    target: Literal["binary", "classes"]
    columns: tuple[str, ...]
    tree: LabelTree | None
    frame: Frame
    learnt: tuple[int, ...]
    shares: tuple[float, ...]
    calibration: Recalibration
    restated: bool
    versions: Mapping[str, str]
    files: Mapping[str, bytes] = field(repr=False)
    prevalence: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict, repr=False)
    log: str = field(default="", repr=False)

    @property
    def spec(self) -> TableSpec:
        """The table."""
        return self.frame.table

    @cached_property
    def model(self) -> Any:
        """AutoGluon's predictor, in memory. Its files were made by this process, or somebody trusts them."""
        return revive(self.name, self.files)

    def predict(self, design: Design) -> Prediction:
        """Probabilities of every unit; each row depends on itself alone."""
        cohort = design.cohort
        p, lp = self.risks(self.raw(self.spec.matrix(design)))
        return Prediction(cohort.units, cohort.patients, self.columns, p, lp, flags=self._flags(cohort))

    def raw(self, x: Float) -> Float:
        """AutoGluon's probabilities of the classes it was taught, (n, classes), from the table's matrix."""
        if not len(x):
            return np.empty((0, len(self.learnt)))
        found = self.model.predict_proba(self.frame.make(x), as_multiclass=True)
        p = found[list(range(len(self.learnt)))].to_numpy(dtype=np.float64)
        return np.asarray(p / p.sum(axis=1, keepdims=True))

    def risks(self, raw: Float) -> tuple[Float, Float]:
        """Probabilities (n, columns) and linear predictors, (n,) or of classes (n, columns), of raw probabilities."""
        if self.tree is None:
            lp = self.calibration.log_odds(raw) + self.prevalence
            return 1 / (1 + np.exp(-lp))[:, None], lp
        log_p = self.calibration.log_p(raw)
        shares = np.array(self.shares)
        leaves = np.tile(shares, (len(raw), 1))
        taught = np.array(self.learnt, dtype=np.intp)
        p = np.exp(log_p)
        if self.restated:
            # A share is no evidence: without it, a class that was not learnt is as likely as the others on average.
            p = p / shares[taught]
            leaves = np.full_like(leaves, 1.0 / len(shares))
            weight = len(taught) / len(shares)
        else:
            weight = float(shares[taught].sum())
        leaves[:, taught] = weight * p / p.sum(axis=1, keepdims=True)
        found = node_probabilities(self.tree, leaves / leaves.sum(axis=1, keepdims=True))
        return found, np.log(np.maximum(found, SMALLEST))

    def with_prevalence(self, prevalence: float) -> FittedAutogluon:
        """Binary: the log odds moved from the sample's share of events to a population's (King & Zeng)."""
        assert self.tree is None
        return replace(self, prevalence=prevalence_shift(self.shares[1], prevalence))

    def scale(self, column: str) -> str:
        """What contributions are measured in."""
        return "log odds" if self.tree is None else f"log P({column})"

    def untaught(self) -> tuple[str, ...]:
        """Images and radiomics that no training unit lacked: what the models say without them was not learnt."""
        found = dict.fromkeys(c.input for c in self.spec.columns if c.source in ("image", "radiomics"))
        return tuple(name for name in found if name not in self.frame.lacking)

    def record(self) -> dict[str, Any]:
        """How it was fitted: for the run's folder and the report, never for a bundle."""
        return dict(self.facts)

    def save(self, folder: Path) -> None:
        """model.json, and AutoGluon's pickles below `untrusted/`, which `load_autogluon` reads only if it is told to.

        Equal models give equal bytes.
        """
        for name, raw in self.files.items():
            atomic_write(folder / UNTRUSTED / name, raw)
        write_json(folder / "model.json", self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """JSON form without the files, of which it holds the hashes."""
        return {
            "format": FORMAT,
            "kind": "autogluon",
            "name": self.name,
            "target": self.target,
            "columns": list(self.columns),
            "tree": None if self.tree is None else asdict(self.tree),
            "frame": self.frame.to_json(),
            "learnt": list(self.learnt),
            "shares": list(self.shares),
            "calibration": asdict(self.calibration),
            "restated": self.restated,
            "prevalence": self.prevalence,
            "versions": dict(self.versions),
            "files": {name: hashlib.sha256(raw).hexdigest() for name, raw in sorted(self.files.items())},
        }

    def _flags(self, cohort: Cohort) -> tuple[Flag, ...]:
        """Of a gap that training never had, that a stand-in was taken."""
        return tuple(
            replace(flag, code="imputed") if flag.code == "missing" and flag.input not in self.frame.lacking else flag
            for flag in self.spec.flags(cohort)
        )

    def __getstate__(self) -> dict[str, Any]:
        # Sent to another process without the revived model, which would be sent twice.
        return {key: value for key, value in self.__dict__.items() if key != "model"}


def load_autogluon(folder: Path) -> FittedAutogluon:
    """Inverse of `FittedAutogluon.save`. The files are read here and run at the first prediction: trust is settled
    before, by `osml.predictors.registry.load_predictor`.

    Raises
    ------
    RunError
        Not such a predictor, or written by other versions of what it depends on.
    VerificationError
        A file is missing or changed.
    """
    data = read_json(folder / "model.json")
    if data.get("format") != FORMAT or data.get("kind") != "autogluon":
        raise RunError(f"{folder / 'model.json'} is not an autogluon predictor that this osml reads", do="Update osml.")
    check_versions(data["name"], data["versions"])
    files = {}
    for name, expected in data["files"].items():
        path = folder / UNTRUSTED / name
        raw = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(raw).hexdigest() != expected:
            raise VerificationError(f"{path} is missing or was changed", do="Copy the whole folder again.")
        files[name] = raw
    tree, calibration = data["tree"], data["calibration"]
    return FittedAutogluon(
        name=data["name"],
        target=data["target"],
        columns=tuple(data["columns"]),
        tree=None if tree is None else LabelTree(tuple(tree["nodes"]), tuple(tree["parents"])),
        frame=frame_from_json(data["frame"], table_from_json(data["frame"]["table"])),
        learnt=tuple(data["learnt"]),
        shares=tuple(data["shares"]),
        calibration=Recalibration(**{**calibration, "values": tuple(calibration["values"])}),
        restated=data["restated"],
        versions=data["versions"],
        files=files,
        prevalence=data["prevalence"],
    )
