"""Coded checks: every code once, with what it means, why it matters and how to mend it.

`refuse` stops `fit` unless `checks.accept` gives a reason, which is then printed with the result; `warn` and `note` are
reported. The codes are stable: reports and papers cite them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["refuse", "warn", "note"]


@dataclass(frozen=True)
class Code:
    """One check: `code` is stable, `severity` decides what `fit` does."""

    code: str
    severity: Severity
    title: str
    why: str
    fix: str


@dataclass(frozen=True)
class Finding:
    """What one check saw: the evidence with values, columns, levels or patient ids."""

    code: str
    evidence: str
    subject: str = ""

    @property
    def definition(self) -> Code:
        return BY_CODE[self.code]


CODES: tuple[Code, ...] = (
    Code(
        "OSML010", "refuse", "an input looks like an identifier",
        "A name or number that is nearly unique per patient lets a model recognise patients instead of disease.",
        "Remove it from `inputs`; only `cohort.patient` names patients.",
    ),
    Code(
        "OSML011", "refuse", "an input has one value only",
        "A constant carries no information and makes the model singular.",
        "Remove it from `inputs`.",
    ),
    Code(
        "OSML012", "warn", "a level is rare",
        "A coefficient that rests on a handful of patients is unstable, and its axis on a nomogram misleads.",
        "Merge levels that mean the same clinically, before looking at the outcome.",
    ),
    Code(
        "OSML013", "refuse", "an input nearly determines the outcome",
        "That is usually the outcome under another name, or something measured after it.",
        "Remove the input, or accept the code with the reason why it is known at the time of prediction.",
    ),
    Code(
        "OSML014", "refuse", "an input becomes available after the time of prediction",
        "The model could never be used: at that time nobody knows the value.",
        "Remove the input, or move `time_of_prediction`.",
    ),
    Code(
        "OSML015", "warn", "two patients share all their values",
        "One patient under two ids crosses the split and inflates every result.",
        "Check the ids; give one patient one id.",
    ),
    Code(
        "OSML016", "note", "values were altered by a stated rule",
        "Values below or above a reporting limit are replaced as `censored:` says; the number of them matters.",
        "Nothing, if the rule is right.",
    ),
    Code(
        "OSML017", "warn", "much of an input is missing",
        "Above 40 % missing, imputation by regression carries the column more than the data do.",
        "Drop the input, or find the values.",
    ),
    Code(
        "OSML018", "warn", "missingness differs by outcome",
        "Who was measured then tells the outcome: imputation is biased and complete cases are a selection.",
        "Find out why values are missing; consider dropping the input.",
    ),
    Code(
        "OSML019", "warn", "site or group goes with the outcome",
        "A model can learn the site instead of the disease; random folds will not show it.",
        "Validate with `split: {kind: leave_one_group_out}`.",
    ),
    Code(
        "OSML020", "warn", "patients were lost because an image could not be used",
        "The cohort is a selection: whoever has a usable image may differ from whoever has none.",
        "Mend the files that cohort/exclusions.csv names; report the number.",
    ),
    Code(
        "OSML021", "refuse", "two patients share an image",
        "One image under two ids crosses the split, and the model is tested on what it has seen.",
        "Check ids and paths; give every patient the image that is theirs.",
    ),
    Code(
        "OSML022", "refuse", "more than a fifth of the patients have no usable image",
        "That is usually a wrong folder or a wrong setting, not the patients.",
        "Read the reasons in the evidence; mend paths or settings, or accept the code with the reason.",
    ),
    Code(
        "OSML023", "refuse", "a slide belongs to two patients",
        "A slide crosses the split with them, and the model is tested on tissue that it has seen.",
        "Check the ids; a slide is of one patient.",
    ),
    Code(
        "OSML024", "note", "tiles overlap on their slide",
        "Overlapping tiles are not new observations. Patients stay whole in every split, so none is tested on itself.",
        "Nothing; count slides and patients, not tiles.",
    ),
    Code(
        "OSML040", "refuse", "a level has no event or no non-event",
        "Its coefficient is infinite: the likelihood has no maximum.",
        "Merge the level, drop the input, or use `estimator: firth` or `shrink: ridge`.",
    ),
    Code(
        "OSML041", "warn", "the sample is too small for the candidate parameters",
        "Below Riley's criteria a model is expected to overfit; its predictions for new patients are too extreme.",
        "Use fewer candidate parameters. Every output says 'exploratory', with the reason given in `checks.accept`.",
    ),
    Code(
        "OSML042", "refuse", "at least as many candidate parameters as events",
        "Such a model cannot be estimated with any meaning.",
        "Use fewer candidate parameters.",
    ),
    Code(
        "OSML043", "refuse", "the outcome is separated",
        "A combination of inputs predicts the outcome perfectly, so coefficients run to infinity.",
        "Merge levels, drop inputs, or use `estimator: firth` or `shrink: ridge`.",
    ),
    Code(
        "OSML044", "warn", "hazards are not proportional",
        "A Cox coefficient is then an average over follow-up, and risks at a horizon are biased.",
        "Stratify, use a shorter horizon, or report it.",
    ),
    Code(
        "OSML045", "warn", "the optimism-corrected calibration slope is below 0.8",
        "Unshrunken predictions are too extreme by a fifth or more.",
        "Deploy the shrunken model (the default), or reduce the candidate parameters.",
    ),
    Code(
        "OSML046", "refuse", "a standard error is not finite",
        "The data do not determine the coefficient; its axis would be arbitrary.",
        "Merge levels or drop the input.",
    ),
    Code(
        "OSML047", "warn", "an outcome axis is squeezed into less than a quarter of the total points",
        "Most totals then read as nearly the same risk: the inputs hardly tell patients apart.",
        "Report the overall risk beside it.",
    ),
    Code(
        "OSML048", "refuse", "a score was computed on its own training rows",
        "Its axis is too long: the score looks better in training than in any new patient.",
        "Use out-of-fold scores, as `fit` does.",
    ),
    Code(
        "OSML049", "warn", "a horizon has fewer than 10 patients at risk",
        "Risks there rest on a handful of patients; the axis is left out.",
        "Choose an earlier horizon.",
    ),
    Code(
        "OSML050", "warn", "a training fold has fewer than 10 of a class",
        "What a network learns of that class rests on a handful, and the fold's result for it says little.",
        "Read the results per patient; collect more of the class, or merge classes that mean the same clinically.",
    ),
)  # fmt: skip

BY_CODE: dict[str, Code] = {code.code: code for code in CODES}
