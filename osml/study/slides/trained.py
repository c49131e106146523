"""Who a bundle was fitted to, known by keyed hashes: its maps of them look better than those of new patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from osml.imaging.slides_job import slide_key
from osml.predictors.slide_recipe import SlideCase
from osml.runs.bundle import Bundle
from osml.study.slides.publish import TRAINING, keyed


@dataclass(frozen=True)
class Training:
    """Keyed hashes of training patients' names and of their slides' contents."""

    key: bytes
    patients: frozenset[str]
    slides: frozenset[str]

    def knows(self, patient: str) -> bool:
        """Whether a patient of this name was trained on."""
        return bool(set(keyed(self.key, [patient])) & self.patients)

    def holds(self, content: str) -> bool:
        """Whether a slide with this `slide_key` was trained on."""
        return bool(set(keyed(self.key, [content])) & self.slides)


def training_of(bundle: Bundle) -> Training:
    """What a region study's bundle says of its training."""
    facts = bundle.read(TRAINING)
    return Training(bytes.fromhex(facts["key"]), frozenset(facts["patients"]), frozenset(facts["slides"]))


def in_training(training: Training, cases: Sequence[SlideCase]) -> dict[str, str]:
    """Slide → how it is known to be of a training patient: by name, by content, by another slide. Others are left out.

    A file that cannot be read is known by its patient's name only.
    """
    out: dict[str, str] = {}
    for case in cases:
        if training.knows(case.patient):
            out[case.slide] = "by name"
        elif case.path.is_file() and training.holds(slide_key(case.path)):
            out[case.slide] = "by content"
    found = {case.patient for case in cases if case.slide in out}
    others = {case.slide: "by another slide" for case in cases if case.patient in found}
    return others | out
