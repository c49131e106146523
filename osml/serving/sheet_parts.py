"""What stands on the sheet of one patient, section by section, as strips of the page."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from osml.cohort.table import Table
from osml.nomogram.canvas import ASCENT, Line, Mark, Text
from osml.nomogram.fonts import MM_PER_PT
from osml.serving.explain import NOT_KNOWN, Explanation
from osml.serving.form import entered
from osml.serving.model import Model
from osml.serving.rows import Row
from osml.serving.sheet_layout import (
    BODY,
    ICONS_HEIGHT,
    ICONS_WIDTH,
    LARGE,
    MARGIN,
    SMALL,
    Cell,
    Pen,
    Picture,
    Strip,
    bar,
    beside,
    icons,
)
from osml.serving.table_pictures import measured_of
from osml.serving.words import (
    EQUAL_SHARES,
    cautions,
    frequency_words,
    interval_words,
    measure_words,
    percent,
    risk_words,
    statement,
    undecided_words,
)

MOST_BARS = 24
MOST_COLUMNS = 3
PICTURE_MM, TALLEST_MM = 80.0, 68.0
_IN_CARD = ("Developed with", "Validation", "Caution")


def about(pen: Pen, model: Model) -> list[Strip]:
    """Title, and for whom, when and of what the prediction is."""
    out = pen.lines(str(model.facts["title"]), 15.0, "bold")
    out += pen.lines(f"Sheet of one patient · model {model.name}", BODY, "regular", "muted")
    out.append(Strip(2.0))
    if model.facts["synthetic"]:
        out += pen.warning(f"SYNTHETIC DATA: {model.facts['synthetic']}. Nothing here holds for a real person.")
    rows = [(name, words) for name, words in statement(model) if name not in _IN_CARD]
    validation = next(words for name, words in statement(model) if name == "Validation")
    return [*out, *pen.facts([*rows, ("Validation", validation)]), Strip(1.0)]


def result(pen: Pen, model: Model, row: Row) -> list[Strip]:
    """The prediction with its interval, as a number of a hundred patients, or why there is none."""
    out = pen.heading("Prediction")
    if not row.ok:
        return [*out, *pen.warning(f"No prediction: {row.status}")]
    if model.withheld:
        return [*out, *pen.warning(f"No probability is shown: {model.withheld}")]
    if model.classes:
        return [*out, *_classes(pen, model, row)]
    for k in range(len(model.columns)):
        room = pen.room - ICONS_WIDTH - 6.0
        words = pen.lines(percent(row.p[k]), LARGE, "bold", room=room)
        words += pen.lines(f"risk of {risk_words(model, k)}", 11.0, "bold", room=room)
        words += pen.lines(f"Interval: {interval_words(row, k)}", room=room)
        words += pen.lines(frequency_words(model, row, k), room=room)
        filled = min(100, max(0, round(100 * row.p[k])))
        marks = icons(pen.width - MARGIN - ICONS_WIDTH, 1.5, filled)
        em = SMALL * MM_PER_PT
        under = Text(
            pen.width - MARGIN - ICONS_WIDTH, ICONS_HEIGHT + 3.0 + ASCENT * em,
            f"{filled} of 100 circles are filled", SMALL, "regular", "muted",
        )  # fmt: skip
        out += [beside(words, (*marks, under), ICONS_HEIGHT + 7.0), Strip(1.5)]
    if row.inside is not None:
        out += pen.lines(
            f"Prediction set: {undecided_words(row)}" if row.undecided else f"Prediction set: decided, {row.inside[0]}"
        )
    return out


def _classes(pen: Pen, model: Model, row: Row) -> list[Strip]:
    p = dict(zip(model.columns, row.p, strict=True))
    best = f"{row.predicted}, {percent(p[row.predicted])}"
    if row.inside is not None and row.undecided:
        out = pen.lines("undecided", LARGE, "bold")
        out += pen.lines(f"{undecided_words(row)} Most probable: {best}.")
    else:
        out = pen.lines(row.predicted, LARGE, "bold")
        out += pen.lines(f"most probable class: {percent(p[row.predicted])}", 11.0, "bold")
    out += pen.lines("Interval: no interval available")
    if model.equal_shares:
        out += pen.lines(f"{EQUAL_SHARES}.", ink="muted")
    out.append(Strip(1.5))
    for name in model.columns:
        label = name if name in model.classes else f"{name} (all classes below it)"
        held = "" if row.inside is None or name not in model.classes or name not in row.inside else ", in the set"
        out.append(_bar_row(pen, label, p[name], 0.0, 1.0, f"{100 * p[name]:.1f} %{held}"))
    return out


def inputs(pen: Pen, model: Model, table: Table, at: int, row: Row, root: Path | None) -> list[Strip]:
    """Every input with its unit and how it was given; what gaps could change."""
    gaps = {gap.input: gap for gap in model.gaps(table, at, root=root)}
    fields = {field.name: field for field in model.form()}
    rows = []
    for answer in model.answers(table, at, root=root):
        field = fields[answer.input]
        span = field.training
        usual = "" if span is None else f"{span[0]:.4g} to {span[1]:.4g} {field.unit}".strip()
        beside_it = entered(table, at, field)
        far = answer.input in row.extrapolated
        if not answer.given:
            taken = gaps[answer.input].taken if answer.input in gaps else NOT_KNOWN
            words = "the model does without" if taken == NOT_KNOWN else f"taken as {taken}"
            how = Cell(f"unknown; {words}", "bold", "warning")
        elif far:
            how = Cell("given; outside the training range", "bold", "warning")
        else:
            how = Cell("given" + (f"; {beside_it}" if beside_it else ""))
        value = Cell(answer.shown if answer.given else "unknown")
        rows.append((Cell(answer.label), value, how, Cell(usual, ink="muted")))
    for label, words in model.images_given(table, at, root=root):
        given = words != "not given"
        how = Cell("given") if given else Cell("unknown; the model does without", "bold", "warning")
        rows.append((Cell(label), Cell(words if given else "unknown"), how, Cell("")))
    out = [
        *pen.heading("Inputs"),
        *pen.table(("Input", "Value", "How it was given", "Training range"), (32, 22, 28, 18), rows),
    ]
    if gaps:
        each = [f"P({c})" if model.classes else f"Risk by {c}s" for c in model.columns[:MOST_COLUMNS]]
        shown = ["Risk if it were known"] if len(model.columns) == 1 else each
        lines = []
        for gap in gaps.values():
            ends = list(zip(gap.low, gap.high, strict=True))[: len(shown)]
            risks = [Cell(f"{percent(a)} to {percent(b)}") for a, b in ends]
            lines.append((Cell(gap.label), Cell(gap.taken), *risks))
        out += pen.heading("What is unknown, and its effect")
        out += pen.table(("Input", "Taken as", *shown), (30, 25, *([45 / len(shown)] * len(shown))), lines)
        out += pen.lines("Over the range of the training patients, the rest as given.", SMALL, "regular", "muted")
    return out


def contributions(pen: Pen, title: str, found: Explanation) -> list[Strip]:
    """Bars of what moved the prediction, each with its number and direction in words."""
    average = found.reference == "average patient"
    against = "the average patient of the training data" if average else found.reference
    what = found.scale.removeprefix("log ") if found.scale.startswith("log P(") else "the risk"
    out = pen.heading(title)
    out += pen.lines(
        f"Contributions ({found.scale}) against {against}. They describe the model, not causes.", SMALL, ink="muted",
        keep=True,
    )  # fmt: skip
    out.append(Strip(1.2, keep=True))
    parts = sorted(found.contributions, key=lambda part: -abs(part.value))
    shown, rest = parts[:MOST_BARS], parts[MOST_BARS:]
    if not parts:
        return [*out, *pen.lines("No input entered this model: it gives every patient the same prediction.")]
    reach = max(max(abs(part.value) for part in parts), 1e-9)
    for part in shown:
        gone = " (not given)" if part.imputed and part.shown != "not given" else ""
        word = f"raises {what}" if part.value > 0 else f"lowers {what}" if part.value < 0 else "no effect"
        words = f"{_signed(part.value)} {word}"
        out.append(_bar_row(pen, f"{part.label}: {part.shown}{gone}", part.value, -reach, reach, words))
    if rest:
        out += pen.lines(f"{len(rest)} further inputs together: {_signed(sum(part.value for part in rest))}", SMALL)
    out += pen.lines(
        f"Base {_signed(found.base)}, with all contributions {_signed(found.lp)} ({found.scale}). {found.note}", SMALL,
        ink="muted",
    )  # fmt: skip
    return out


def _bar_row(pen: Pen, label: str, value: float, low: float, high: float, words: str) -> Strip:
    """A label, a bar from 0 and its number in words."""
    label_room, words_room = 0.42 * pen.room, 0.24 * pen.room
    left, right = MARGIN + label_room, pen.width - MARGIN - words_room

    def x(v: float) -> float:
        return left + (v - low) / (high - low) * (right - left)

    labels = pen.lines(label, room=label_room - 3.0)
    strip = beside(labels, (), 4.0)
    middle = strip.height / 2
    marks: list[Mark] = [*strip.marks]
    if abs(x(value) - x(0.0)) > 0.05:
        marks.append(bar(x(0.0), x(value), middle - 1.3, 2.6, "patient" if value > 0 and low < 0 else "accent"))
    marks.append(Line(x(0.0), 0, x(0.0), strip.height + 0.8, 0.2, "muted"))
    numbers = beside(pen.lines(words, SMALL, room=words_room - 2.0), (), 0.0)
    marks += [_shifted(mark, right + 2.0 - MARGIN).moved(middle - numbers.height / 2) for mark in numbers.marks]
    return Strip(max(strip.height, numbers.height) + 0.8, tuple(marks))


def _shifted(mark: Mark, dx: float) -> Mark:
    assert isinstance(mark, Text)
    return Text(mark.x + dx, mark.y, mark.text, mark.size, mark.style, mark.ink, mark.anchor, mark.role)


def pictures(pen: Pen, model: Model, table: Table, at: int, root: Path | None) -> list[Strip]:
    """Heat maps of a network beside its pictures, and the slice with most of each lesion."""
    heat = model.grad_cam(table, at, root=root)
    measured = measured_of(table, at)
    out: list[Strip] = []
    if heat:
        out += pen.heading("Where the pictures raise the score")
        of = f"Grad-CAM, of {heat[0].of}: warm places raise it; the line runs around half of the warmest value."
        out += pen.lines(of, SMALL, ink="muted", keep=True)
        for one in heat:
            words = "warm where the score rises" if one.warm else "no part of this picture raises the score"
            out += _pair(pen, (one.picture, one.overlay), (one.label, f"{one.label}: {words}"))
    elif measured is not None:
        shown = [(model.label(name), png) for name, found in measured.shown.items() for png in found]
        out += pen.heading("Pictures") if shown else []
        for k in range(0, len(shown), 2):
            labels, pngs = zip(*shown[k : k + 2], strict=True)
            out += _pair(pen, pngs, labels)
    regions = {} if measured is None else measured.pictures
    for name, png in regions.items():
        out += pen.heading(f"{model.label(model.schema.radiomics()[name].of)}: what was measured")
        out += _pair(pen, (png,), ("Slice with most of the lesion; the outline of the mask is orange.",))
        lines = [
            (Cell(str(line["region"])), Cell(f"{line['voxels']:,}"), Cell(f"{100 * line['clipped_share']:.1f} %"))
            for line in (measured.regions.get(name, ()) if measured is not None else ())
        ]
        out += pen.table(("Region", "Voxels", "Cut off by the image's border"), (40, 30, 30), lines) if lines else []
    return out


def _pair(pen: Pen, pngs: Sequence[bytes], labels: Sequence[str]) -> list[Strip]:
    """One or two pictures beside each other with their words below."""
    from PIL import Image

    found: list[Picture] = []
    texts: list[Mark] = []
    for k, (png, label) in enumerate(zip(pngs, labels, strict=True)):
        with Image.open(io.BytesIO(png)) as image:
            width, height = image.size
        scale = min(PICTURE_MM / width, TALLEST_MM / height)
        left = MARGIN + k * (PICTURE_MM + 8.0)
        found.append(Picture(left, 0.0, width * scale, height * scale, png))
        below = beside(pen.lines(label, SMALL, room=PICTURE_MM, left=left - MARGIN), (), 0.0)
        texts += below.marks
    tall = max(picture.height for picture in found) + 1.2
    deepest = max((mark.y for mark in texts if isinstance(mark, Text)), default=0.0) + 2.0
    return [Strip(tall + deepest, tuple(mark.moved(tall) for mark in texts), tuple(found)), Strip(2.0)]


def weights(pen: Pen, model: Model, row: Row) -> list[Strip]:
    """How a gated network took its parts."""
    if not row.gates:
        return []
    words = "; ".join(f"{model.label(name)} {weight:.2f}" for name, weight in row.gates.items())
    return [Strip(1.5), *pen.lines(f"Weights of the parts, which add up to 1: {words}.", SMALL)]


def card(pen: Pen, model: Model) -> list[Strip]:
    """The model card in short: patients, events, how well it did, what is known against it, identity."""
    rows = [(name, words) for name, words in statement(model) if name in _IN_CARD[:2]]
    rows += [("Held out" if i == 0 else "", words) for i, words in enumerate(measure_words(model))]
    prevalence = model.facts["prevalence"]
    rows.append(("Sampling", str(model.facts["sampling"]).replace("_", "-")))
    if prevalence:
        rows.append(("Prevalence", f"{prevalence['value']:g} ({prevalence['source']})"))
    rows += [("Caution", words) for words in cautions(model)]
    rows += [
        ("Model", f"{model.schema.name} / {model.name}, osml {model.bundle.manifest['osml']}"),
        ("SHA-256", model.bundle.model_hash),
    ]
    facts = [replace(strip, keep=True) for strip in pen.facts(rows)]
    return [*pen.heading("The model in short"), *facts[:-1], replace(facts[-1], keep=False)]


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")
