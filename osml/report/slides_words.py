"""A region study's run as a report reads it, and what it says in words: the honest sentence first."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from osml.errors import RunError
from osml.files import read_json
from osml.report.wording import plural
from osml.schema.model import Schema
from osml.schema.slides import RegionTarget

RESEARCH = "Research use only. Not a medical device; no advice on treatment. Not a pathology report."
KINDS = {
    "none": "none: the classifier's own map",
    "majority": "majority filter",
    "unet": "U-Net, one step",
    "brownian_bridge": "Brownian bridge",
    "best": "best: as each fold chose",
}
NOTICE = "Not a pathology report: nobody has checked these maps. Huvos grade IV is never asserted."


@dataclass(frozen=True)
class Slides:
    """A finished region study, read from its folder."""

    path: Path
    schema: Schema
    metrics: dict[str, Any]
    summary: dict[str, Any]
    environment: dict[str, Any]
    findings: list[dict[str, Any]]

    @property
    def target(self) -> RegionTarget:
        """What is predicted."""
        assert isinstance(self.schema.target, RegionTarget)
        return self.schema.target

    @property
    def judged(self) -> tuple[str, ...]:
        """Predictors with held-out results."""
        return tuple(name for name, found in self.metrics["predictors"].items() if "maps" in found)

    def label(self, name: str) -> str:
        """Words for a predictor."""
        return getattr(self.schema.predictors[name], "label", None) or name

    def table(self, name: str) -> list[tuple[str, ...]]:
        """Lines of a table of the run, the header first; empty where it was not written."""
        file = self.path / "tables" / f"{name}.csv"
        if not file.is_file():
            return []
        with file.open(newline="", encoding="utf-8") as stream:
            return [tuple(line) for line in csv.reader(stream)]

    def notices(self) -> list[str]:
        """What must stand above everything else."""
        out = []
        if self.metrics["synthetic"]:
            told = self.metrics["synthetic"]
            out.append(f"SYNTHETIC DATA: {told}. No number here says anything about real patients.")
        out.append(NOTICE)
        out += [f"Accepted although it refuses, {code}: {why}." for code, why in self.metrics["accepted"].items()]
        failed = sorted({entry["predictor"] for entry in self.metrics["failures"]})
        if failed:
            out.append(f"Not all fits or slides succeeded: {', '.join(failed)}; failures.csv says why.")
        return out

    def split_words(self) -> str:
        """How predictors were judged."""
        split = self.schema.validation.split
        if split.kind == "kfold":
            times = f", repeated {split.repeats} times" if split.repeats > 1 else ""
            return f"{split.folds}-fold cross-validation by patient{times}"
        return {
            "leave_one_patient_out": "leaving out one patient at a time",
            "leave_one_group_out": "leaving out one group of patients at a time",
            "time": "a test on later patients",
            "holdout": "a test on patients set apart",
        }[split.kind]

    def rate_words(self) -> str:
        """The necrosis rate as a formula of class names."""
        necrosis = self.target.necrosis
        if necrosis is None:
            return "none: the study names no classes for it"
        dead, alive = (" + ".join(side) for side in (necrosis.necrotic, necrosis.viable))
        return f"({dead}) / ({alive} + {dead}), by area"

    def judged_words(self, name: str) -> str:
        """On what a predictor was judged."""
        found = self.metrics["predictors"][name]
        lost = f"; {plural(found['failed_folds'], 'fold')} failed" if found["failed_folds"] else ""
        return (
            f"{plural(found['slides'], 'annotated slide')} of {plural(found['patients'], 'patient')} by "
            f"{self.split_words()}{lost}: each slide is mapped by models that were fitted without its patient."
        )

    def choice_words(self, name: str) -> str:
        """Which refiners the folds chose, and what the final model uses."""
        found = self.metrics["predictors"][name]
        chosen = ", ".join(f"{KINDS[kind].split(':')[0]} in {n}" for kind, n in found["chosen"].items())
        out = f"Refiner used, by number of folds: {chosen}."
        if found["deployed"] == "best":
            out += (
                " Each fold chose on its own inner patients, so the row “best” is honest; picking the highest row of "
            )
            out += "this table would not be."
        model = found.get("model", {})
        if model:
            out += f" The model of the bundle uses: {KINDS[model['refiner']].split(':')[0]}."
        if "final" in found:
            out += f" There is no final model: {found['final']['failed']}."
        return out

    def table_note(self, name: str) -> str:
        """What the table of refiners counts."""
        found = self.metrics["predictors"][name]
        facts = found["maps"]["none"]
        out = (
            "Means over the classes that occur; cells count, so larger annotated areas weigh more. Background is a "
            "class like the others; glass that nobody drew counts as it, so the mean over the classes of tissue stands "
            "beside. A class that occurs in neither map has no value and is in no mean. Tissue that "
            "nobody annotated is left out."
        )
        if facts["absent"]:
            out += f" Absent: {', '.join(facts['absent'])}."
        if facts["no_interval"]:
            out += f" No intervals: {facts['no_interval']}."
        else:
            out += " Intervals are conditional on the fitted models and therefore too narrow."
        if self.metrics["necrosis"]:
            share = found.get("share_annotated")
            told = "" if share is None else f" ({100 * share:.0f} % of the tissue is annotated)"
            out += f" Necrosis error: the mean of |reference − prediction| over patients, on what is annotated{told}."
        return out


def region_study(path: Path) -> bool:
    """Whether a run's folder is that of a region study."""
    file = path / "metrics.json"
    return file.is_file() and read_json(file).get("target") == "region"


def read_slide_run(path: Path) -> Slides:
    """The run in a folder.

    Raises
    ------
    RunError
        Files are missing or cannot be read.
    """
    try:
        schema = Schema.model_validate(read_json(path / "schema.resolved.json"))
        metrics, summary = read_json(path / "metrics.json"), read_json(path / "cohort" / "summary.json")
        environment, checks = read_json(path / "environment.json"), read_json(path / "cohort" / "checks.json")
    except FileNotFoundError as error:
        raise RunError(f"{path} is not a finished run: {Path(str(error.filename)).name} is missing") from None
    except (ValidationError, ValueError) as error:
        raise RunError(f"the run at {path} cannot be read: {error}") from None
    return Slides(path, schema, metrics, summary, environment, checks)


def first_sentences(run: Slides) -> list[str]:
    """The study in plain words, what refinement changed first."""
    out = []
    for name in run.judged:
        found = run.metrics["predictors"][name]
        out.append(f"{run.label(name)}: {performance_words(found)}")
    counts = run.summary
    out.append(
        f"{plural(counts['units'], 'slide')} of {plural(counts['patients'], 'patient')} were used, "
        f"{counts['outcomes']['annotated']} of them annotated; judged by {run.split_words()}."
    )
    if not run.judged:
        out.insert(0, "No predictor could be judged on held-out slides.")
    return out


def performance_words(found: Mapping[str, Any]) -> str:
    """One honest paragraph of a predictor: overlap, necrosis error, and whether refining helped."""
    deployed = found["deployed"]
    facts, coarse = found["maps"][deployed], found["maps"]["none"]
    miou, before = facts["overall"]["miou"], coarse["overall"]["miou"]
    if miou["value"] is None:
        return "no class could be judged."
    out = f"on held-out patients the maps overlap with the annotation by a mean IoU of {_percent(miou)}"
    if deployed == "none":
        out += ", unrefined."
    else:
        out += f" (unrefined {100 * before['value']:.1f} %). " + _gain_words(found["gain"][deployed]["miou"])
    necrosis = facts.get("necrosis")
    if necrosis is not None and necrosis["mean_absolute"]["value"] is not None:
        error, plain = necrosis["mean_absolute"], coarse["necrosis"]["mean_absolute"]
        span = f" ({error['low']:.1f} to {error['high']:.1f})" if "low" in error else ""
        out += (
            f" The necrosis rate of a patient is off by {error['value']:.1f} percentage points{span} on average over "
            f"{plural(necrosis['patients'], 'patient')}"
        )
        out += "." if deployed == "none" or plain["value"] is None else f"; unrefined {plain['value']:.1f}."
    return out


def _gain_words(gain: Mapping[str, Any]) -> str:
    if gain.get("value") is None:
        return "What refinement changes cannot be estimated."
    change = f"{points(100 * gain['value'], 1, sign=True)} points"
    if "low" not in gain:
        return f"Refinement changes it by {change}; there are too few patients for an interval."
    span = f"{points(100 * gain['low'], 1, sign=True)} to {points(100 * gain['high'], 1, sign=True)}"
    if gain["low"] > 0:
        return f"Refinement gains {change} ({span})."
    if gain["high"] < 0:
        return f"Refinement makes it worse by {change} ({span})."
    return f"Whether refinement helps is open: {change} ({span})."


def limits(run: Slides) -> list[str]:
    """What a reader must not conclude."""
    out = [
        "Research use only; not a pathology report. A pathologist has to look at the slides.",
        "Rates are those of the slides analysed; tumour that is not on them is not known.",
        "That no viable tumour is left can never be shown from a sample, so grade IV is not asserted.",
    ]
    if run.schema.validation.split.kind not in ("holdout", "time"):
        out.append("No external validation: other laboratories, scanners and stains are not known.")
    patients = run.summary["annotated_patients"]
    if patients < 20:
        out.append(f"{patients} annotated patients: intervals are wide and still too narrow.")
    shares = [run.metrics["predictors"][name].get("share_annotated") for name in run.judged]
    known = [share for share in shares if share is not None]
    if known and min(known) < 0.9:
        out.append(
            f"{100 * min(known):.0f} % of the tissue on annotated slides is annotated; how the maps do on the rest is "
            "not known, and whoever drew may have left out what was hard to tell."
        )
    return out


def _percent(entry: Mapping[str, Any]) -> str:
    span = f" ({100 * entry['low']:.1f} to {100 * entry['high']:.1f})" if "low" in entry else ""
    return f"{100 * entry['value']:.1f} %{span}"


def points(value: float, digits: int, *, sign: bool = False) -> str:
    """A number with a true minus, and a plus where it is a change.

    >>> points(-1.25, 1), points(2, 1, sign=True)
    ('−1.2', '+2.0')
    """
    return f"{value:{'+' if sign else ''}.{digits}f}".replace("-", "\N{MINUS SIGN}")
