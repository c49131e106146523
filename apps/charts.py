"""Charts that are also text: every colour has a word beside it, every chart its numbers under it."""

from __future__ import annotations

import altair as alt
import pandas as pd
import streamlit as st
from frame import show_grid

from osml.runs.results import Grid
from osml.serving import Curve, Explanation

TICKS = 5
BAR_PIXELS, LABEL_PIXELS = 32, 280

# Okabe-Ito, readable on white and on dark grounds.
RAISES, LOWERS = "#D55E00", "#0072B2"


def draw(chart: alt.Chart, words: str) -> None:
    """A chart with dark letters on a light page and light ones on a dark page: Streamlit's own grey is too faint."""
    chart = chart.configure_axis(labelColor=_ink(), titleColor=_ink(), labelFontSize=12, titleFontSize=12)
    st.altair_chart(chart.configure_legend(labelColor=_ink(), labelFontSize=12), width="stretch", alt=words)


def icon_array(p: float) -> None:
    """A hundred circles, the filled ones standing for patients with the event."""
    filled = min(100, max(0, round(100 * p)))
    words = f"{filled} of 100 circles are filled, {100 - filled} are empty"
    ink = _ink()
    marks = [
        f'<circle cx="{12 + 20 * (i % 20)}" cy="{12 + 20 * (i // 20)}" r="7" fill="{ink if i < filled else "none"}"/>'
        for i in range(100)
    ]
    size = 'viewBox="0 0 404 104" width="404" height="104"'
    frame = f'<svg xmlns="http://www.w3.org/2000/svg" {size} stroke="{ink}" stroke-width="1.5">'
    st.image(f"{frame}{''.join(marks)}</svg>", alt=words)


def class_bars(
    classes: tuple[str, ...], p: tuple[float, ...], columns: tuple[str, ...], inside: tuple[str, ...] | None
) -> None:
    """Probability of each class as bars, and of classes and inner nodes as a table."""
    by_name = dict(zip(columns, p, strict=True))
    frame = pd.DataFrame({"class": list(classes), "probability": [by_name[name] for name in classes]})
    bars = (
        alt.Chart(frame)
        .mark_bar(color=LOWERS)
        .encode(
            x=alt.X("probability:Q", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(tickCount=TICKS, format=".0%")),
            y=alt.Y("class:N", sort=None, title=None, axis=alt.Axis(labelLimit=LABEL_PIXELS)),
        )
        .properties(height=alt.Step(BAR_PIXELS))
    )
    draw(bars, "Probability of each class; the table below holds it.")
    header = ("Class", "Probability", *(("In the prediction set",) if inside is not None else ()))
    rows = []
    for name in columns:
        words = name if name in classes else f"{name} (all classes below it)"
        held = "" if name not in classes or inside is None else "yes" if name in inside else "no"
        rows.append((words, f"{100 * by_name[name]:.1f} %", *((held,) if inside is not None else ())))
    show_grid(Grid(header, tuple(rows)))


def contributions(explanation: Explanation) -> None:
    """Bars of the contributions, largest first, and the same as a table."""
    parts = sorted(explanation.contributions, key=lambda c: -abs(c.value))
    names = [f"{c.label}: {c.shown}" + (" (not given)" if c.imputed else "") for c in parts]
    what = "the risk" if not explanation.scale.startswith("log P(") else explanation.scale.removeprefix("log ")
    up, down = f"raises {what}", f"lowers {what}"
    directions = [up if c.value > 0 else down for c in parts]
    frame = pd.DataFrame({"input": names, "contribution": [c.value for c in parts], "direction": directions})
    bars = (
        alt.Chart(frame)
        .mark_bar()
        .encode(
            x=alt.X("contribution:Q", title=f"contribution ({explanation.scale})", axis=alt.Axis(tickCount=TICKS)),
            y=alt.Y("input:N", sort=None, title=None, axis=alt.Axis(labelLimit=LABEL_PIXELS)),
            color=alt.Color(
                "direction:N",
                title=None,
                scale=alt.Scale(domain=[up, down], range=[RAISES, LOWERS]),
                legend=alt.Legend(orient="bottom"),
            ),
        )
        .properties(height=alt.Step(BAR_PIXELS))
    )
    draw(bars, "Contribution of each input to this prediction; the table below holds it.")
    rows = tuple(
        (name, f"{c.value:+.3f}", direction) for name, c, direction in zip(names, parts, directions, strict=True)
    )
    total = (
        (f"{explanation.reference} (base)", f"{explanation.base:+.3f}", ""),
        (f"sum = {explanation.scale} of this patient", f"{explanation.lp:+.3f}", ""),
    )
    show_grid(Grid(("Input", f"Contribution ({explanation.scale})", "Direction"), (*rows, *total), explanation.note))


def reference(explanation: Explanation) -> str:
    """Whom contributions are measured against, in words."""
    average = explanation.reference == "average patient"
    return "the average patient of the training data" if average else explanation.reference


def spans(curves: tuple[Curve, ...], scale: str) -> None:
    """How far each input can move a prediction over the training range."""
    ordered = sorted(curves, key=lambda c: min(c.effect) - max(c.effect))
    frame = pd.DataFrame(
        {"input": [c.label for c in ordered], "span": [max(c.effect) - min(c.effect) for c in ordered]}
    )
    bars = (
        alt.Chart(frame)
        .mark_bar(color=LOWERS)
        .encode(
            x=alt.X("span:Q", title=f"largest difference ({scale})", axis=alt.Axis(tickCount=TICKS)),
            y=alt.Y("input:N", sort=None, title=None, axis=alt.Axis(labelLimit=LABEL_PIXELS)),
        )
        .properties(height=alt.Step(BAR_PIXELS))
    )
    draw(bars, "Largest effect of each input over the training range; table below.")
    rows = tuple(
        (c.label, f"{max(c.effect) - min(c.effect):.3f}", _at(c, max(c.effect)), _at(c, min(c.effect))) for c in ordered
    )
    show_grid(Grid(("Input", f"Span ({scale})", "Highest at", "Lowest at"), rows))


def curve(one: Curve, scale: str) -> None:
    """Effect of one input over its training range."""
    title = f"{one.label} ({one.unit})" if one.unit else one.label
    if one.kind == "category":
        frame = pd.DataFrame({"value": list(one.shown), "effect": one.effect})
        base = alt.Chart(frame).mark_bar(color=LOWERS)
        x = alt.X("value:N", sort=None, title=title, axis=alt.Axis(labelAngle=0))
    else:
        frame = pd.DataFrame({"value": one.values, "effect": one.effect})
        base = alt.Chart(frame).mark_line(color=LOWERS, strokeWidth=2.5)
        x = alt.X("value:Q", title=title, scale=alt.Scale(zero=False, nice=False), axis=alt.Axis(tickCount=TICKS))
    chart = base.encode(x=x, y=alt.Y("effect:Q", title=f"contribution ({scale})")).properties(height=260)
    draw(chart, "Contribution over the training range; the table below holds it.")
    step = 1 if one.kind == "category" else 5
    rows = tuple((shown, f"{effect:+.3f}") for shown, effect in zip(one.shown[::step], one.effect[::step], strict=True))
    with st.expander("Numbers of this chart"):
        show_grid(Grid((title, f"Contribution ({scale})"), rows))


def decision_curve(points: list[dict[str, float]]) -> None:
    """Net benefit of the model beside acting on all and on none."""
    lines = (("model", "model"), ("act on all", "treat_all"), ("act on none", "treat_none"))
    frame = pd.DataFrame(
        [
            {"threshold": point["threshold"], "net benefit": point[key], "line": name}
            for point in points
            for name, key in lines
        ]
    )
    names = [name for name, _ in lines]
    chart = (
        alt.Chart(frame)
        .mark_line(strokeWidth=2.5)
        .encode(
            x=alt.X("threshold:Q", title="threshold risk", scale=alt.Scale(nice=False), axis=alt.Axis(tickCount=TICKS)),
            y=alt.Y("net benefit:Q"),
            color=alt.Color(
                "line:N",
                title=None,
                scale=alt.Scale(domain=names, range=[LOWERS, RAISES, "#888888"]),
                legend=alt.Legend(orient="bottom"),
            ),
            strokeDash=alt.StrokeDash("line:N", title=None, sort=names),
        )
        .properties(height=300)
    )
    draw(chart, "Net benefit over the threshold risk; the table below holds it.")
    rows = tuple(
        (
            f"{p['threshold']:.2f}",
            f"{p['model']:+.3f}",
            f"{p['low']:+.3f} to {p['high']:+.3f}",
            f"{p['treat_all']:+.3f}",
        )
        for p in points[:: max(1, len(points) // 8)]
        if p["model"] is not None and p.get("low") is not None
    )
    with st.expander("Numbers of this chart"):
        show_grid(Grid(("Threshold", "Net benefit", "Interval", "Act on all"), rows))


def _ink() -> str:
    return "#e8e8e8" if st.context.theme.type == "dark" else "#30323d"


def _at(one: Curve, effect: float) -> str:
    return one.shown[one.effect.index(effect)]
