"""The page: sections in the order in which a reader asks, one self-contained HTML file without a script."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from osml.report import autogluon, boosting, candidates, classes, networks, plans, radiomics, tables
from osml.report.exhibit import Exhibit
from osml.report.explained import gallery_notes
from osml.report.html import Markup, details, join, tag
from osml.report.layout import Section, document, figures
from osml.report.models import ModelRow, models_table
from osml.report.radscores import Radscore
from osml.report.run import Run
from osml.report.summary import RESEARCH, summary_paragraphs, warnings
from osml.report.wording import event_words, no_model
from osml.schema.words import missing_words


@dataclass(frozen=True)
class Exhibits:
    """Figures of a report by the section they belong to."""

    flow: Exhibit
    regions: Sequence[Exhibit]
    scores: Sequence[tuple[Radscore, Sequence[Exhibit]]]
    panel: Exhibit | None
    discrimination: Sequence[Exhibit]
    calibration: Sequence[Exhibit]
    decision: Sequence[Exhibit]
    survival: Sequence[Exhibit]
    explanation: Sequence[Exhibit]
    confusion: Sequence[Exhibit] = ()
    gates: Sequence[Exhibit] = ()
    candidates: Exhibit | None = None

    def all(self) -> list[Exhibit]:
        """Every figure, in the order of the page."""
        panel = [e for e in (self.panel, self.candidates) if e is not None]
        groups = (
            self.regions, *(found for _, found in self.scores), panel, self.confusion, self.discrimination,
            self.calibration, self.decision, self.survival, self.gates, self.explanation,
        )  # fmt: skip
        return [self.flow, *(e for group in groups for e in group)]


def page(run: Run, exhibits: Exhibits, rows: Sequence[ModelRow]) -> str:
    """The report as HTML text; the same run gives the same bytes."""
    title = str(run.facts["title"])
    sections = [s for s in _sections(run, exhibits, rows) if s is not None]
    subtitle = f"Report of the study {run.schema.name}"
    footer = f"{RESEARCH} Figures as PDF and PNG and their data: report/figures. Tables: tables, report/tables."
    return document(title, subtitle, warnings(run), sections, footer)


def _sections(run: Run, exhibits: Exhibits, rows: Sequence[ModelRow]) -> list[Section | None]:
    withheld = [tag("p", f"Not shown: {run.withheld}.", class_="absent")] if run.withheld else []
    fixed = f"Predicted {'probabilities' if run.classes else 'risks'} should agree with what happened."
    if not run.independent_test:
        fixed += " On average they do by design when patients are resampled from one cohort: no evidence. The slope is."
    what = "Who comes before whom in risk; the area or C is 0.5 for chance and 1 for perfect order."
    if run.classes:
        what = "Each class against the rest; the area is 0.5 for chance and 1 for perfect order."
    told = networks.networks(run) + networks.stacks(run)
    return [
        ("summary", "Summary", [*summary_paragraphs(run), _key_facts(run)]),
        ("patients", "Patients", [figures([exhibits.flow])]),
        ("baseline", "Baseline characteristics", [_baseline(run)]),
        ("regression", "Regression tables", _regression(run)),
        ("radiomics", "Images and radiomics", radiomics.section(run, exhibits.regions, exhibits.scores, figures))
        if radiomics.radiomics_inputs(run)
        else None,
        ("plan", "Plan and failures" if run.metrics.get("failures") else "Plan", plans.section(run))
        if plans.planned(run)
        else None,
        ("results", "Results of all predictors", _results(run, exhibits, rows)),
        ("candidates", "Candidates and choice", candidates.section(run, exhibits.candidates, figures))
        if candidates.asked(run)
        else None,
        ("classes", "Classes", [*classes.per_class(run), figures(exhibits.confusion)]) if run.classes else None,
        ("discrimination", "Discrimination", [tag("p", what), figures(exhibits.discrimination)])
        if exhibits.discrimination
        else None,
        ("calibration", "Calibration", withheld or _calibration(run, exhibits, fixed)),
        ("decision", "Decision curve", withheld or [_decision(run), figures(exhibits.decision)]),
        ("survival", "Survival", [figures(exhibits.survival)]) if exhibits.survival else None,
        ("networks", "Networks", networks.section(run, exhibits.gates, figures)) if told else None,
        ("boosting", "Boosted trees", boosting.section(run)) if boosting.boosted(run) else None,
        ("autogluon", "AutoGluon", autogluon.section(run)) if autogluon.autogluons(run) else None,
        ("nomogram", "Nomogram", _nomograms(run)),
        ("explanation", "What the model does", [_explanation(), *gallery_notes(run), figures(exhibits.explanation)]),
        ("checks", "Checks", [*tables.checks(run)]),
        ("comparisons", "Comparisons", [tables.comparisons(run)]),
        ("provenance", "Environment and provenance", [tables.provenance(run)]),
    ]


def _key_facts(run: Run) -> Markup:
    study, facts = run.schema.study, run.facts
    rows = [
        ("Classes" if run.classes else "Event", event_words(run)),
        ("Time of prediction", str(facts["time_of_prediction"]).replace("_", " ")),
        ("Population", facts["population"] or "not stated"),
        ("Centre, period", ", ".join(str(facts[k]) for k in ("centre", "period") if facts[k]) or "not stated"),
        ("Sampling", str(study.sampling).replace("_", "-")),
        ("Missing values", missing_words(run.schema)),
    ]
    if study.prevalence is not None:
        rows.append(("Prevalence", f"{study.prevalence.value:g} ({study.prevalence.source})"))
    return tag("dl", *(part for term, text in rows for part in (tag("dt", term), tag("dd", text))), class_="key")


def _baseline(run: Run) -> object:
    folder = run.path / "tables"
    first = tables.run_table(
        folder / "table_one.csv", "Table 1. Characteristics overall and by outcome", text_columns=2
    )
    second = tables.run_table(
        folder / "table_two.csv", "Table 2. Characteristics by outcome in training and test patients", text_columns=2
    )
    if second is None and run.independent_test:
        second = tag("p", "The run wrote no table of training and test patients.", class_="note")
    elif second is None:
        second = tag("p", "There is no table of training against test patients: by resampling, every patient is a test "
                     "patient once in each repeat.", class_="note")  # fmt: skip
    rows = ""
    if first is not None and run.cohort.clustered:
        rows = tag(
            "p", "Rows of a patient count as independent in these tests: their p-values are too small.", class_="note"
        )
    return join([first or tag("p", "The run wrote no table of baseline characteristics."), rows, second])


def _regression(run: Run) -> list[object]:
    if run.classes:
        return [tag("p", "None: a regression table has one event; this target has classes.", class_="absent")]
    out: list[object] = [
        tag("p", "How each input goes with the outcome in these patients: description, not performance. Screening "
            "inputs by their univariable p-value misleads; the full model stands beside it for that reason.")
    ]  # fmt: skip
    for name, facts in run.metrics["predictors"].items():
        parts: list[object] = []
        for kind, words in (
            ("univariable", "Univariable: one model per input"),
            ("multivariable", "Multivariable: all inputs together"),
            ("screened", "Screened: inputs that entered by their univariable p-value (not recommended)"),
        ):
            parts.append(tables.run_table(run.path / "tables" / f"{kind}_{name}.csv", f"{words}, {name}"))
        if not any(parts):
            why = facts.get("regression_tables", {}).get("reason") or _no_regression(facts)
            out.append(tag("p", f"{name}: no regression table ({why})."))
        else:
            out.append(details(f"Regression tables of {name}", *parts))
    return out


def _no_regression(facts: Mapping[str, Any]) -> str:
    if "radscore" in facts:
        return "its features stand under Images and radiomics"
    if "network" in facts:
        return "a network has no coefficients; what each input adds stands under Networks"
    if "boosting" in facts:
        return "boosted trees have no coefficients; what each input adds stands under What the model does"
    if "autogluon" in facts:
        return "AutoGluon's models have no common coefficients; what each input adds stands under What the model does"
    if "stack" in facts:
        return "it combines whole predictors; their weights stand under Networks"
    return no_model(facts, "not made")


def _results(run: Run, exhibits: Exhibits, rows: Sequence[ModelRow]) -> list[object]:
    panel = [] if exhibits.panel is None else [figures([exhibits.panel])]
    if run.classes:
        people = classes.patients(run) if run.alone or run.cohort.clustered else []
        beside = classes.pooled(run) if run.alone else []
        folded = [details("Pooled values and what predictions without knowledge give", *beside)] if beside else []
        found = [classes.leaderboard(run), *panel, models_table(run, rows)]
        return [*people, *found, *folded] if run.alone else [*found, *people]
    return [tables.leaderboard(run), _optional(run), *panel, models_table(run, rows), tables.optimism(run)]


def _calibration(run: Run, exhibits: Exhibits, words: str) -> list[object]:
    """The figures; of classes, where none could be drawn for one and the same reason, that reason once."""
    reasons = {e.reason for e in exhibits.calibration}
    if run.classes and len(reasons) == 1 and "" not in reasons:
        return [tag("p", reasons.pop(), class_="absent")]
    return [tag("p", words), figures(exhibits.calibration)]


def _optional(run: Run) -> Markup | None:
    return None if run.withheld else tables.horizons(run)


def _decision(run: Run) -> object:
    decision = run.schema.decision
    if run.classes:
        return tag("p", "None: a decision curve needs the risk of one event; this target has classes.", class_="absent")
    if decision is None:
        return tag(
            "p", "No decision stated: without an action and a range of risks fixed beforehand there is no curve."
        )
    return None


def _explanation() -> Markup:
    return tag(
        "p",
        "How the final model's inputs move its prediction, for the patients it was fitted to. It explains the model; "
        "it is no evidence of performance or of cause. A contribution of 0 is the average patient's. Networks, "
        "boosted trees, AutoGluon and stacks are explained by those of the folds, for patients held out of them.",
    )


def _nomograms(run: Run) -> list[object]:
    out: list[object] = []
    for name, facts in run.metrics["predictors"].items():
        sheet = run.path / "nomogram" / name / "nomogram.svg"
        if not sheet.is_file():
            reason = run.withheld or facts.get("nomogram", {}).get("reason") or no_model(facts, "it was not drawn")
            out.append(tag("p", f"{name}: no nomogram, because {reason}.", class_="absent"))
            continue
        data = base64.b64encode(sheet.read_bytes()).decode("ascii")
        image = Markup(f'<img src="data:image/svg+xml;base64,{data}" alt="Nomogram of {tag("span", name)[6:-7]}">')
        caption = tag(
            "figcaption", f"Nomogram of {name}: add the points of all inputs and read the risk. For printing: ",
            tag("code", f"nomogram/{name}/nomogram.pdf"), ".",
        )  # fmt: skip
        frame = tag("div", image, class_="sheet", tabindex="0", role="region", aria_label=f"Nomogram of {name}")
        out.append(tag("figure", frame, caption, class_="wide"))
    return out
