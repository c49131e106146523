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
    st.subheader("This session's patient")
    charts.contributions(model.explain(one.table, one.row))
effects = model.effects()
if not effects:
    st.info("No input entered this model: it gives every patient the same risk.")
else:
    st.subheader("Which inputs matter")
    charts.spans(effects, model.scale)
    st.subheader("How an input acts")
    labels = {effect.input: effect.label for effect in effects}
    chosen = st.selectbox("Input", list(labels), format_func=lambda name: plain(labels[name]))
    charts.curve(next(effect for effect in effects if effect.input == chosen), model.scale)
results = current_results()
figures = results.figures("shap", "beeswarm", "dependence", "contributions") if results is not None else []
if figures:
    st.subheader("SHAP over all training patients")
    for figure in [f for f in figures if model.name in f.name] or figures:
        show_figure(figure, figure.name.replace("_", " "))
