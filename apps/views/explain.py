"""What the model does with each input, and what moved the patient's prediction."""

from __future__ import annotations

import charts
import patient
import streamlit as st
from frame import current_model, current_results, heading, plain, refusals, show_figure, show_grid, small

from osml.runs.results import Grid
from osml.serving import measured_of


def from_files(one: patient.Patient) -> bool:
    """Whether pictures came with the form, or beside the table."""
    measured = measured_of(one.table, one.row)
    return measured is not None and bool(measured.shown)


model = current_model()
heading("Explain", model)
st.markdown(small("Explanations describe the model, not causes. The model is the one fitted to all patients."))
one = patient.current(model)
if one is not None and one.result.ok:
    st.header("This session's patient")
    column = None
    if model.classes:
        column = st.selectbox(
            "Class that is explained", model.columns, model.columns.index(one.result.predicted), format_func=plain
        )
    with refusals():
        explanation = model.explain(one.table, one.row, column=column)
        maps = model.grad_cam(one.table, one.row, column=column) if from_files(one) else ()
    st.markdown(small(f"Against {charts.reference(explanation)}."))
    charts.contributions(explanation)
    if one.result.gates:
        st.subheader("How the network weighs what it was given")
        weights = tuple((model.label(name), f"{weight:.2f}") for name, weight in one.result.gates.items())
        show_grid(Grid(("Part", "Weight"), weights, "Weights add up to 1; one may fall on what is missing."))
    if maps:
        st.subheader("Where the pictures raise the score")
        words = f"Grad-CAM, of {maps[0].of}: warm places raise it; the line runs around half of the warmest value."
        st.markdown(small(words))
        for heat in maps:
            left, right = st.columns(2)
            left.image(heat.picture, caption=plain(heat.label), alt=heat.label)
            words = "warm where the score rises" if heat.warm else "no part of this picture raises the score"
            right.image(heat.overlay, caption=plain(f"{heat.label}: {words}"), alt=f"{heat.label}: {words}")
    for label, inside in model.explain_scores(one.table, one.row):
        st.subheader(plain(label))
        charts.contributions(inside)
effects = model.effects()
together = {"network": "A network's inputs", "boosting": "The inputs of trees", "autogluon": "The inputs of its models"}
if model.kind in (*together, "stack"):
    words = (
        f"{together[model.kind]} do not act one by one: what one does depends on the others. Predict a patient to see "
        "what moved that prediction."
        if model.kind in together
        else "A stack combines whole models. Predict a patient to see what each of them adds."
    )
    st.info(words if one is None else words.partition(" Predict")[0])
elif not effects:
    st.info("No input entered this model: it gives every patient the same risk.")
else:
    st.header("Which inputs matter")
    charts.spans(effects, model.scale)
    st.header("How an input acts")
    labels = {effect.input: effect.label for effect in effects}
    chosen = st.selectbox("Input", list(labels), format_func=lambda name: plain(labels[name]))
    charts.curve(next(effect for effect in effects if effect.input == chosen), model.scale)
for label, inside in model.score_effects():
    st.header(f"Inside the {plain(label)}")
    st.markdown(small("Each feature from 2 SD below to 2 SD above its training mean, the others at their means."))
    if inside:
        charts.spans(inside, model.scale)
    else:
        st.info("No feature was selected: the score is the same for every patient.")
results = current_results()
# The report's figures of single patients stay in the report: here nothing shows one patient's values.
figures = results.figures("shap", model.name) if results is not None else []
if figures:
    st.header("SHAP over all training patients")
    show_figure(
        figures[0], "Contribution of each input, one mark a patient; the inputs that move predictions most are on top"
    )
