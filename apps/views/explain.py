"""What the model does with each input, and what moved the patient's prediction."""

from __future__ import annotations

import charts
import patient
import streamlit as st
from frame import current_model, current_results, heading, plain, show_figure, small

model = current_model()
heading("Explain", model)
st.markdown(small("Explanations describe the model, not causes. The model is the one fitted to all patients."))
one = patient.current(model)
if one is not None and one.result.ok:
    st.header("This session's patient")
    charts.contributions(model.explain(one.table, one.row))
    for label, inside in model.explain_scores(one.table, one.row):
        st.subheader(plain(label))
        charts.contributions(inside)
effects = model.effects()
if not effects:
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
