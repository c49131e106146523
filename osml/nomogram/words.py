"""Sentences of the sheet: first line, steps, notes, banners, footer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from osml.nomogram.algebra import Nomogram
from osml.nomogram.metadata import NOTICE
from osml.nomogram.outcome_axis import shown
from osml.nomogram.reading import reading_error
from osml.nomogram.rows import FEW_EVENTS
from osml.nomogram.spec import CoxOutcome

INTERNAL_ONLY = "internally validated only, no external validation"

STEPS = (
    "Find the patient's value on the axis of each predictor.",
    "Go straight up to the Points ruler and read the points.",
    "Add the points of all predictors.",
    "Find the sum on the axis Total points.",
    "Go straight down and read the probability.",
)


def title(nomogram: Nomogram) -> str:
    """Heading of the sheet."""
    given = nomogram.metadata.get("title")
    if given:
        return str(given)
    outcome = nomogram.outcome
    if isinstance(outcome, CoxOutcome):
        what = "Risk of" if outcome.show == "risk" else "Probability of no"
        return f"{what} {outcome.event}"
    return outcome.names[0]


def first_line(nomogram: Nomogram) -> str:
    """Event, horizon, time of prediction, population, centre and years, and how far it was validated."""
    m, outcome = nomogram.metadata, nomogram.outcome
    if isinstance(outcome, CoxOutcome):
        times = ", ".join(f"{t:.10g}" for j, t in enumerate(outcome.horizons) if shown(nomogram, j))
        event = f"{outcome.event} by {times} {outcome.unit}".strip()
    else:
        event = f"{outcome.event} {outcome.horizon}".strip()
    parts = [f"Event: {event}"]
    if m.get("time_of_prediction"):
        parts.append(f"predicted {m['time_of_prediction']}")
    parts += [str(m[key]) for key in ("population", "centre", "period") if m.get(key)]
    parts.append(str(m["validation"]) if m.get("validation") else INTERNAL_ONLY)
    return " · ".join(parts)


def banners(nomogram: Nomogram) -> list[str]:
    """What the reader must know before using the sheet."""
    m = nomogram.metadata
    out = []
    if m.get("exploratory"):
        out.append(f"EXPLORATORY. {m['exploratory']}")
    if m.get("surrogate"):
        out.append(surrogate_sentence(m["surrogate"]))
    out += [f"Warning: {text}" for text in m.get("warnings", ())]
    out += [f"Accepted {code}: {reason}" for code, reason in sorted(m.get("accepted", {}).items())]
    return out


def surrogate_sentence(s: Mapping[str, Any]) -> str:
    """What a surrogate approximates, and how well."""
    return (
        f"APPROXIMATION of {s['of']}, not the model itself: R² {float(s['r2']):.3f} on the logit, |Δp| mean "
        f"{float(s['mean_error']):.3f}, max {float(s['max_error']):.3f}, calibration slope {float(s['slope']):.2f}, "
        f"intercept {float(s['intercept']):.2f} ({s['rows']} patients)."
    )


def notes(nomogram: Nomogram, width: float) -> list[str]:
    """Legend and cautions under a chart whose axes are `width` mm wide."""
    out = []
    categories = [p for p in nomogram.predictors if p.kind == "category"]
    if categories:
        counted = "; patients (%) per level" if any(p.level_counts for p in categories) else ""
        out.append(f"○ reference level{counted}.")
    if any(c < FEW_EVENTS for p in categories for c in p.level_events):
        out.append(f"† fewer than {FEW_EVENTS} events.")
    if any(p.histogram is not None for p in nomogram.predictors):
        out.append("Bars: training patients per interval (fewer than 5 not drawn).")
    if nomogram.training_totals is not None:
        out.append(f"Shaded on Total points: {nomogram.training_totals.words}.")
    outside = [
        f"{p.label} {100 * (p.share_below + p.share_above):.1f} %"
        for p in nomogram.predictors
        if p.share_below + p.share_above > 0
    ]
    if outside:
        out.append(f"Training patients outside the printed axes: {', '.join(outside)}; values there are extrapolated.")
    outcome = nomogram.outcome
    if isinstance(outcome, CoxOutcome):
        hidden = [f"{t:.10g}" for j, t in enumerate(outcome.horizons) if not shown(nomogram, j)]
        if hidden:
            out.append(f"No axis for {', '.join(hidden)} {outcome.unit}: fewer than 10 training patients at risk.")
    out.append(reading_error(nomogram, width).words)
    out += [str(text) for text in nomogram.metadata.get("notes", ())]
    return out


def short_notes(nomogram: Nomogram) -> list[str]:
    """The marks of the chart alone, where the rest has to stand on another page."""
    out = ["○ reference level."] if any(p.kind == "category" for p in nomogram.predictors) else []
    if any(c < FEW_EVENTS for p in nomogram.predictors for c in p.level_events):
        out.append(f"† fewer than {FEW_EVENTS} events.")
    return [*out, "Legend, cautions and how to read it: next page."]


def footer(nomogram: Nomogram) -> str:
    """Provenance in one line."""
    given = nomogram.metadata.get("provenance", {})
    return " · ".join(f"{key} {value}" for key, value in given.items())


def description(nomogram: Nomogram) -> str:
    """For screen readers and document properties."""
    names = ", ".join(p.label for p in nomogram.predictors)
    return f"Nomogram. {first_line(nomogram)}. Predictors: {names}. {NOTICE}"
