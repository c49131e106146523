"""The rules that fill a plan: regressions, boosted trees, networks and stacks, as far as the sample carries them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass
class Draft:
    """Candidates under way: predictors in order, reasons, what is left out."""

    predictors: dict[str, dict[str, Any]] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)
    left_out: list[dict[str, str]] = field(default_factory=list)
    adds: list[list[str]] = field(default_factory=list)

    def add(self, name: str, why: str, **block: Any) -> None:
        self.predictors[name] = block
        self.why[name] = why

    def leave(self, what: str, why: str) -> None:
        self.left_out.append({"what": what, "why": why})

    def drop(self, name: str, why: str) -> None:
        """Take a candidate out again, and whatever it feeds."""
        del self.predictors[name], self.why[name]
        self.leave(name, why)
        self.adds = [pair for pair in self.adds if name not in pair]
        for other in [n for n, block in self.predictors.items() if name in block["inputs"]]:
            self.drop(other, f"it takes the score of {name!r}, which is left out")


@dataclass(frozen=True)
class Kit:
    """What candidates are made of.

    values, numbers, logged : names of all value inputs, of the numeric ones, and of the labs that are always positive
    radiomics : radiomics input → the region that is fixed where none is chosen
    images : pictures and volumes
    inner : whether there are inner folds to choose on
    """

    target: Literal["binary", "survival", "classes"]
    hierarchy: bool
    values: list[str]
    numbers: list[str]
    logged: list[str]
    radiomics: dict[str, str]
    images: list[str]
    inner: bool
    preset: Literal["quick", "standard", "thorough"]
    limit: float | None
    machine: Mapping[str, Any]
    tier: str
    patients: int

    @property
    def seeds(self) -> int:
        return {"quick": 1, "standard": 3, "thorough": 5}[self.preset]

    @property
    def trials(self) -> int:
        """Settings to try on inner folds; none for small samples, whose inner folds cannot tell them apart."""
        if self.tier == "small" or not self.inner or not self.machine["tuning"]:
            return 0
        return {"quick": 0, "standard": 15, "thorough": 50}[self.preset]


SMALL_WHY = "below 100 patients only penalised models and frozen encoders are tried"


def fill(draft: Draft, kit: Kit) -> None:
    """All candidates, simplest first."""
    if kit.target == "classes":
        draft.leave("nomograms", "a nomogram draws a regression of one event; this target has classes")
    else:
        _regressions(draft, kit)
    _trees(draft, kit)
    _networks(draft, kit)
    _stack(draft, kit)


def _regressions(draft: Draft, kit: Kit) -> None:
    terms = dict.fromkeys(kit.logged, "log")
    logs = " Labs enter by their logarithm: they are positive and skewed." if terms else ""
    if kit.values:
        draft.add(
            "clinical",
            "All clinical inputs in one regression, nothing selected, coefficients shrunken: the model that others "
            "have to beat." + logs,
            kind="nomogram", inputs=kit.values, **({"terms": terms} if terms else {}), shrink="uniform",
        )  # fmt: skip
        draft.add(
            "clinical_ridge",
            "The same inputs with a ridge penalty chosen on inner folds, for when parameters are many." + logs,
            kind="nomogram", inputs=kit.values, **({"terms": terms} if terms else {}), shrink="ridge",
        )  # fmt: skip
        if kit.tier == "small" and kit.numbers:
            draft.leave("splines of the numbers", SMALL_WHY)
        elif kit.numbers and kit.preset != "quick":
            splines = {name: {"rcs": 4} for name in kit.numbers}
            draft.add(
                "clinical_spline", "Numbers as restricted cubic splines with four knots: risk need not rise evenly.",
                kind="nomogram", inputs=kit.values, terms=splines, shrink="ridge",
            )  # fmt: skip
    if not kit.inner and kit.radiomics:
        draft.leave("Rad-scores", "they select features on inner folds; `validation.inner` is none")
        return
    scores = []
    for name, fixed in kit.radiomics.items():
        score = "radscore" if len(kit.radiomics) == 1 else f"radscore_{name}"
        region = fixed if kit.preset == "quick" else "best"
        how = (
            f"of the region {fixed!r}, fixed beforehand"
            if kit.preset == "quick"
            else "of the best region by inner folds"
        )
        draft.add(score, f"Features {how}, selected inside every fold: what the images alone say.",
                  kind="radscore", inputs=[name], region=region)  # fmt: skip
        scores.append(score)
    if scores and kit.values:
        draft.add(
            "combined", "The clinical regression with the Rad-score as one more axis: what imaging adds.",
            kind="nomogram", inputs=[*kit.values, *scores], **({"terms": terms} if terms else {}), shrink="uniform",
        )  # fmt: skip
        draft.adds.append(["clinical", "combined"])


def _trees(draft: Draft, kit: Kit) -> None:
    inputs = [*kit.values, *kit.radiomics]
    if kit.tier == "large":
        inputs += kit.images
    if not inputs:
        return
    if kit.tier == "small":
        draft.leave("boosted trees", f"{SMALL_WHY}; {kit.patients} patients")
        draft.leave("AutoGluon", f"{SMALL_WHY}; {kit.patients} patients")
        return
    if not kit.inner:
        draft.leave("boosted trees", "they stop early on inner folds; `validation.inner` is none")
    elif not kit.machine["boosting"]:
        draft.leave("boosted trees", "LightGBM is not installed: pip install 'osml[automl]'")
    else:
        search = {"search": {"trials": kit.trials}} if kit.trials else {}
        draft.add("boosted", "Boosted trees: thresholds and interactions that a regression does not have.",
                  kind="boosting", inputs=inputs, **search)  # fmt: skip
    _autogluon(draft, kit, inputs)


def _autogluon(draft: Draft, kit: Kit, inputs: list[str]) -> None:
    if kit.preset == "quick":
        draft.leave("AutoGluon", "the preset quick leaves it out")
    elif kit.target == "survival":
        draft.leave("AutoGluon", "it has no objective for censored outcomes")
    elif not kit.inner:
        draft.leave("AutoGluon", "its bags are inner folds; `validation.inner` is none")
    elif not kit.machine["autogluon"]:
        draft.leave("AutoGluon", "it is not installed: pip install 'osml[autogluon]'")
    else:
        draft.add("autogluon", "AutoGluon's tabular ensemble: an independent search over the same columns.",
                  kind="autogluon", inputs=inputs)  # fmt: skip


def _networks(draft: Draft, kit: Kit) -> None:
    if not kit.images and kit.target != "classes" and kit.tier == "small":
        draft.leave("networks", f"{SMALL_WHY}, and there is no image")
        return
    if not kit.machine["networks"]:
        draft.leave("networks", "torch and timm are not installed: pip install 'osml[nets]'")
        return
    common: dict[str, Any] = {"kind": "network", "seeds": kit.seeds, "ablation": "none"}
    if kit.tier != "small" and kit.trials:
        common["search"] = {"trials": kit.trials}
    tune = _tuning(draft, kit)
    table = [*kit.values, *kit.radiomics]
    beside = (kit.values or list(kit.radiomics)) if kit.images else table
    if beside:
        what = "values and radiomics" if beside == table and kit.values and kit.radiomics else "values"
        what = what if kit.values else "radiomics"
        why = f"A network on {what} alone, beside `fused`." if kit.images else f"A network on {what}."
        draft.add("tabular", why, **common, inputs=beside)
    if kit.images:
        draft.add("image", "A network on the images alone.", **common, inputs=kit.images, **tune)
        if kit.hierarchy and kit.preset != "quick":
            draft.add("image_flat", "The same with its leaves side by side: what the tree is worth.",
                      **common, inputs=kit.images, head="flat", **tune)  # fmt: skip
    if kit.images and table:
        draft.add("fused", "Images and everything else side by side in one network.",
                  **common, inputs=[*kit.images, *table], **tune)  # fmt: skip
        draft.adds.append(["tabular", "fused"])
        if kit.preset == "thorough":
            draft.add("fused_gated", "The same with a learnt weight for every input.",
                      **common, inputs=[*kit.images, *table], fusion="gated", **tune)  # fmt: skip


def _tuning(draft: Draft, kit: Kit) -> dict[str, Any]:
    """Encoders stay frozen unless sample, GPU and preset allow more."""
    if not kit.images or kit.preset == "quick":
        return {}
    if kit.tier == "large" and kit.machine["gpu"]:
        return {"encoders": {name: {"model": "default", "tune": "lora"} for name in kit.images}}
    reason = SMALL_WHY if kit.tier != "large" else "no GPU"
    if kit.tier == "medium":
        reason = "fewer than 500 patients"
    draft.leave("encoders that are trained", reason)
    return {}


def _stack(draft: Draft, kit: Kit) -> None:
    """The mean of one candidate of each kind; its members are fitted once more, so quick leaves it out."""
    chosen = [name for name in ("clinical", "combined", "boosted", "fused", "image") if name in draft.predictors]
    if "combined" in chosen:
        chosen.remove("clinical")
    if "fused" in chosen:
        chosen.remove("image")
    if len(chosen) < 2:
        return
    if kit.preset == "quick":
        draft.leave("a stack", "the preset quick leaves it out")
        return
    draft.add("stack", "The mean of one candidate of each kind, no weights learnt.", kind="stack", inputs=chosen)
