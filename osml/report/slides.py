"""The report of a region study: what held-out maps are worth, from the run's folder alone; no slide is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from osml.errors import RunError
from osml.explanation.drawing import save
from osml.files import atomic_write, write_csv
from osml.report import slides_card
from osml.report.exhibit import Exhibit
from osml.report.html import Markup, details, number, table, tag
from osml.report.layout import Section, document, figures
from osml.report.slides_figures import necrosis_exhibit, overlay_exhibits
from osml.report.slides_words import KINDS, RESEARCH, Slides, first_sentences, limits, points, read_slide_run


@dataclass(frozen=True)
class _Drawn:
    scatter: dict[str, Exhibit]
    overlays: dict[str, list[Exhibit]]

    def all(self) -> list[Exhibit]:
        return [*self.scatter.values(), *(e for found in self.overlays.values() for e in found)]


def make_slide_report(run_dir: str | Path) -> Path:
    """Write report/report.html, report/figures/ and model_card.md of a region study.

    Raises
    ------
    RunError
        The folder holds no results of a region study.
    """
    run = read_slide_run(Path(run_dir).resolve())
    if run.metrics["target"] != "region":
        raise RunError(f"the run at {run.path} is no region study")
    drawn = _Drawn(
        {name: necrosis_exhibit(run, name) for name in run.judged} if run.metrics["necrosis"] else {},
        {name: overlay_exhibits(run, name) for name in run.judged},
    )
    folder = run.path / "report"
    for exhibit in drawn.all():
        if exhibit.figure is not None:
            save(exhibit.figure, folder / "figures", exhibit.name)
        if exhibit.picture:
            atomic_write(folder / "figures" / f"{exhibit.name}.png", exhibit.picture)
        if exhibit.drawn:
            write_csv(folder / "figures" / f"{exhibit.name}.csv", exhibit.header, exhibit.data)
    sections = _sections(run, drawn)
    title = run.schema.study.title or run.schema.name
    text = document(title, f"Report of the region study {run.schema.name}", run.notices(), sections, _footer())
    atomic_write(folder / "report.html", text)
    atomic_write(run.path / "model_card.md", slides_card.slide_card(run))
    return folder / "report.html"


def _footer() -> str:
    return f"{RESEARCH} Figures and their data: report/figures. Tables: tables."


def _sections(run: Slides, drawn: _Drawn) -> list[Section]:
    out: list[Section] = [
        ("summary", "Summary", [*(tag("p", words) for words in first_sentences(run)), _key(run)]),
        ("slides", "Slides", [_flow(run), _table_one(run)]),
    ]
    for name in run.metrics["predictors"]:
        words = run.label(name)
        out.append((f"results-{name}", f"Results of {words}", _results(run, name, drawn)))
    out += [
        ("limits", "What this does not tell", [tag("ul", *(tag("li", text) for text in limits(run)))]),
        ("checks", "Checks", [_checks(run)]),
        ("provenance", "Environment and provenance", [_provenance(run)]),
    ]
    return out


def _results(run: Slides, name: str, drawn: _Drawn) -> list[object]:
    found = run.metrics["predictors"][name]
    if name not in run.judged:
        return [tag("p", f"Not judged: {found.get('reason', 'no fold succeeded')}.", class_="absent")]
    parts: list[object] = [
        tag("p", run.judged_words(name)),
        _refiners(run, name),
        tag("p", run.choice_words(name), class_="note"),
        _classes(run, name),
        tag("h3", "Held-out slides, as drawn and as predicted"),
        figures(drawn.overlays[name]),
    ]
    if name in drawn.scatter:
        parts += [tag("h3", "Necrosis rate"), figures([drawn.scatter[name]]), *_grades(run, name), _patients(run, name)]
    return parts


def _refiners(run: Slides, name: str) -> Markup:
    """Table: every map, with what it gains over the coarse one."""
    found = run.metrics["predictors"][name]
    necrosis = run.metrics["necrosis"]
    header = ["Map", "mIoU", "Gain in mIoU", "mIoU of tissue", "Precision", "Recall", "Dice"]
    header += ["Necrosis error, points", "Fall of the error", "Bias, points"] if necrosis else []
    rows = []
    for kind in found["kinds"]:
        place = ("predictors", name, "maps", kind)
        facts, gain = found["maps"][kind], found["gain"].get(kind, {})
        cells: list[object] = [KINDS[kind] + (" (deployed)" if kind == found["deployed"] else "")]
        overall = facts["overall"]
        cells.append(_with_interval(overall["miou"], 100, 1, (*place, "overall", "miou", "value")))
        cells.append(_with_interval(gain.get("miou"), 100, 1, None, sign=True))
        cells.append(number(_times(facts["tissue_miou"], 100), 1))
        cells += [number(_times(overall[m]["value"], 100), 1) for m in ("precision", "recall", "dice")]
        if necrosis:
            error = facts["necrosis"]
            where = (*place, "necrosis", "mean_absolute", "value")
            cells.append(_with_interval(error["mean_absolute"], 1, 2, where))
            cells.append(_with_interval(gain.get("necrosis"), 1, 2, None, sign=True))
            cells.append(_with_interval(error["bias"], 1, 2, None, sign=True))
        rows.append(cells)
    caption = "Held-out maps of every refiner: per cent, with 95 % intervals by drawing patients"
    return tag("div", table(header, rows, caption), tag("p", run.table_note(name), class_="note"))


def _classes(run: Slides, name: str) -> Markup:
    found = run.metrics["predictors"][name]
    header = ["Class", "Share of the reference, %", "IoU before", "IoU", "Precision", "Recall", "Dice"]
    rows = []
    for code, facts in found["maps"][found["deployed"]]["classes"].items():
        before = found["maps"]["none"]["classes"][code]["iou"]["value"]
        place = ("predictors", name, "maps", found["deployed"], "classes", code, "iou", "value")
        rows.append([
            f"{code} {run.metrics['classes'][code]['name']}", number(_times(facts["share"], 100), 1),
            number(_times(before, 100), 1), _with_interval(facts["iou"], 100, 1, place),
            *(number(_times(facts[m]["value"], 100), 1) for m in ("precision", "recall", "dice")),
        ])  # fmt: skip
    caption = "Classes of the deployed map, per cent; before: the coarse map"
    return table(header, rows, caption)


def _grades(run: Slides, name: str) -> list[object]:
    found = run.metrics["predictors"][name]
    limit, huvos = found["detection_limit"], found["huvos"]
    words = [
        f"Huvos grades: none are given, because there are {huvos['reason']}." if huvos["reason"] else
        f"Huvos grades: probabilities rest on {huvos['references']} held-out patients' differences between reference "
        "and prediction, each patient's own left out. They stand in tables/necrosis.csv. Grade IV is never asserted."
    ]  # fmt: skip
    if limit["mm2"] is None:
        words.append(f"Detection limit of viable foci: not known ({limit['reason']}); all of them are for review.")
    else:
        words.append(
            f"Viable foci of {limit['mm2']:.3g} mm² and more are found with a sensitivity of "
            f"{100 * limit['sensitivity']:g} % ({limit['found']} of {limit['foci']} foci found); smaller ones are for "
            "review."
        )
    return [tag("p", text) for text in words]


def _patients(run: Slides, name: str) -> Markup:
    rows = []
    for row in run.metrics["predictors"][name]["necrosis_by_patient"]:
        interval = row.get("interval", {})
        span = f"{100 * interval['low']:.0f} to {100 * interval['high']:.0f}" if "low" in interval else "–"
        rows.append((
            row["patient"], " ".join(row["slides"]), _percent(row["reference"]), _percent(row["predicted_there"]),
            _percent(row["predicted"]), span, row["review"],
        ))  # fmt: skip
    header = ("Patient", "Slides analysed", "Reference", "Predicted, same area", "Predicted, whole slides",
              "95 % by blocks", "Foci to review")  # fmt: skip
    caption = "Necrosis rate of every patient, per cent, by models that did not see the patient"
    note = (
        "The interval is that of the choice of blocks within these slides. It leaves out the error of the segmentation "
        "and tumour that is not on the slides."
    )
    return details("Rates of all patients", table(header, rows, caption, text_columns=2), tag("p", note, class_="note"))


def _flow(run: Slides) -> Markup:
    counts = run.summary
    rows: list[tuple[str, int]] = [("Slides in the table", counts["rows"])]
    rows += [(f"Not used: {reason}", n) for reason, n in counts["excluded"].items()]
    rows += [("Slides used", counts["units"]), ("Their patients", counts["patients"])]
    rows.append(("Annotated slides", counts["outcomes"]["annotated"]))
    rows.append(("Patients with annotated slides", counts["annotated_patients"]))
    rows.append(("Slides that are predicted only", counts["outcomes"]["predicted only"]))
    return table(("Step", "Count"), rows, "Flow of slides; cohort/images.csv names those not used, and why")


def _table_one(run: Slides) -> object:
    rows = run.table("table_one")
    if not rows:
        return None
    return table(("Characteristic", "Annotated", "Predicted only"), rows[1:], "Table 1. Slides", text_columns=1)


def _key(run: Slides) -> Markup:
    study = run.schema.study
    rows = [
        ("Classes", ", ".join(facts["name"] for facts in run.metrics["classes"].values())),
        ("Necrosis rate", run.rate_words()),
        ("Population", study.population or "not stated"),
        ("Centre, period", ", ".join(filter(None, (study.centre, study.period))) or "not stated"),
        ("Sampling", study.sampling.replace("_", "-")),
    ]
    return tag("dl", *(part for term, text in rows for part in (tag("dt", term), tag("dd", text))), class_="key")


def _checks(run: Slides) -> object:
    found = run.findings
    if not found:
        return tag("p", "No coded check found anything.")
    rows = [(f["code"], f["severity"], f["title"], f["evidence"], f["accepted"] or "") for f in found]
    return table(("Code", "Severity", "Check", "Evidence", "Accepted because"), rows, "Checks", text_columns=5)


def _provenance(run: Slides) -> Markup:
    rows = [
        ("osml", run.environment["osml"]), ("Python", run.environment["python"]),
        ("Device", run.environment["device"]), ("Seed", str(run.schema.validation.seed)),
        ("Table SHA-256", run.summary["sha256"]),
    ]  # fmt: skip
    for name, facts in run.metrics["predictors"].items():
        encoder: Mapping[str, Any] = facts.get("model", {}).get("encoder", {})
        if encoder:
            told = ", ".join(f"{key} {value}" for key, value in encoder.items() if isinstance(value, (str, int)))
            rows.append((f"Encoder of {name}", told))
    return table(("What", "Value"), rows, "Versions and inputs", text_columns=2)


def _with_interval(
    entry: Mapping[str, Any] | None, scale: float, digits: int, path: tuple[str | int, ...] | None, *,
    sign: bool = False,
) -> object:  # fmt: skip
    if entry is None or entry.get("value") is None:
        return "–"
    value = entry["value"] * scale
    if path is None:
        shown: object = points(value, digits, sign=sign)
    else:
        shown = number(value, digits, path if scale == 1 else None)  # attributes hold what metrics.json holds
    if entry.get("low") is None:
        return shown
    span = " to ".join(points(entry[end] * scale, digits, sign=sign) for end in ("low", "high"))
    return Markup(f"{tag('span', shown)} ({span})")


def _times(value: float | None, scale: float) -> float | None:
    return None if value is None else value * scale


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"
