"""Whether what was predicted looks like what the model was trained on."""

from __future__ import annotations

import os

import altair as alt
import charts
import pandas as pd
import streamlit as st
from frame import current_model, heading, plain, refusals, show_facts, show_grid, small

from osml.runs.results import Grid
from osml.serving.launch import AUDIT_VARIABLE
from osml.serving.settings import NO_AUDIT

ALL = "all months"
TRAINING, PREDICTED = "training", "predicted"

model = current_model()
heading("Drift", model)
url = os.environ.get(AUDIT_VARIABLE) or NO_AUDIT
if url == NO_AUDIT:
    st.info("Nothing is counted: the app was started without its audit log, in whose database the counts stand.")
    st.stop()

from osml.serving.drift import MARKED, MEDIUM, MIN_N, Comparison, drift, months_of  # noqa: E402


def overview(found: tuple[Comparison, ...]) -> None:
    """All inputs and predictions, one line each."""
    rows = tuple(
        (
            one.label,
            one.verdict,
            f"{one.psi:.2f}",
            f"{one.chance:.2f}",
            "< 0.001" if one.p < 0.001 else f"{one.p:.3f}",
            f"{100 * one.power:.0f} of 100",
            "fewer than 10 patients" if one.missing_training is None else f"{100 * one.missing_training:.0f} %",
            f"{100 * one.missing_new:.0f} %",
            "" if one.outside is None else f"{100 * one.outside:.0f} %",
        )
        for one in found
    )
    header = (
        "Input", "Compared with training", "PSI", "PSI by chance", "p (Holm)", "Would be noticed", "Missing, training",
        "Missing, predicted", "Outside the training range",
    )  # fmt: skip
    note = (
        f"PSI: population stability index, 0 when equal. An input is said to differ where p is below 0.05 and PSI is "
        f"{MARKED:g} or more. 'Would be noticed': in how many of 100 such periods a difference of medium size (Cohen's "
        f"w {MEDIUM:g}) would be found; where that is rare, finding nothing means little."
    )
    show_grid(Grid(header, rows, note))


def one_by_one(one: Comparison) -> None:
    """Shares of training and of predictions in each cell, as bars and as a table."""
    st.markdown(f"**{plain(one.label)}**: {plain(one.verdict)}")
    frame = pd.DataFrame(
        {
            "cell": [*one.names, *one.names],
            "share": [*one.training, *one.new],
            "of": [TRAINING] * len(one.names) + [PREDICTED] * len(one.names),
        }
    )
    bars = (
        alt.Chart(frame)
        .mark_bar()
        .encode(
            x=alt.X("share:Q", title="share of those given", axis=alt.Axis(tickCount=charts.TICKS, format=".0%")),
            y=alt.Y("cell:N", sort=None, title=None, axis=alt.Axis(labelLimit=charts.LABEL_PIXELS)),
            yOffset=alt.YOffset("of:N", sort=[TRAINING, PREDICTED]),
            color=alt.Color(
                "of:N",
                title=None,
                scale=alt.Scale(domain=[TRAINING, PREDICTED], range=[charts.LOWERS, charts.RAISES]),
                legend=alt.Legend(orient="bottom"),
            ),
        )
        .properties(height=alt.Step(charts.BAR_PIXELS // 2))
    )
    charts.draw(bars, f"Shares of {one.label} in training and in what was predicted; the table below holds them.")
    rows = tuple(
        (name, f"{100 * a:.0f} %", f"{100 * b:.0f} %")
        for name, a, b in zip(one.names, one.training, one.new, strict=True)
    )
    show_grid(Grid(("Cell", "Training", "Predicted"), rows))


with refusals():
    months = months_of(url, model)
    chosen = st.selectbox("Period", [ALL, *months]) if months else ALL
    found = drift(url, model, months if chosen == ALL else [chosen])
if found.why:
    st.info(plain(found.why))
    st.stop()
differing = found.differing
st.header("Answer")
if differing:
    words = ", ".join(one.label for one in differing)
    st.markdown(f"### These differ from training: {plain(words)}\n\nThe others show no difference that can be told.")
else:
    weak = any(one.power < 0.8 for one in found.comparisons)
    st.markdown(
        "### Inputs look like training\n\n"
        + ("Of some inputs there are too few predictions to tell." if weak else "No difference was found.")
    )
st.markdown(
    "A difference says that other patients are seen, or that something is measured in another way. It does not say "
    "that predictions are worse: only outcomes can tell that."
)
show_facts(
    [
        ("Predictions counted", str(found.n)),
        ("Rows without a prediction", str(found.refused)),
        ("Held apart", f"counts only, by month; nothing is shown below {MIN_N} predictions"),
    ]
)
if model.images():
    st.markdown(
        small("Pictures, their protocols and features of images are not compared here; only cells and predictions.")
    )
st.header("Inputs and predictions")
overview(found.comparisons)
for comparison in found.comparisons:
    with st.expander(plain(comparison.label)):
        one_by_one(comparison)
