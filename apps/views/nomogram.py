"""The nomogram: on screen, with the patient's lines, as PDF, and as a calculator."""

from __future__ import annotations

import patient
import streamlit as st
from frame import current_model, download, heading, refusals

CALCULATOR_HEIGHT = 1100

model = current_model()
heading("Nomogram", model)
if model.nomogram is None:
    with refusals():
        model.drawing("svg")
one = patient.current(model)
drawn = one if one is not None and one.result.ok and st.toggle("Show this session's patient", value=True) else None
with refusals():
    if drawn is not None:
        picture = model.overlay(drawn.table, drawn.row)
    else:
        picture = model.drawing("svg").decode("utf-8")
if one is None:
    st.info("Predict a patient first to see that patient's lines here.")
# As an image: a script inside an SVG file does not run.
st.image(
    picture,
    width="stretch",
    alt="Nomogram. The calculator below reads it in words; the PDF has its text and its equation.",
)
left, right = st.columns(2)
with left:
    download("Nomogram (PDF)", lambda: model.drawing("pdf"), "nomogram.pdf", "application/pdf")
    download("Nomogram (SVG)", lambda: model.drawing("svg"), "nomogram.svg", "image/svg+xml")
with right:
    if drawn is not None:
        table, row = drawn.table, drawn.row
        download(
            "Sheet with this patient's lines (PDF)",
            lambda: model.sheet(table, row),
            "nomogram_sheet.pdf",
            "application/pdf",
        )
    download("Calculator for use without this app (HTML)", lambda: model.drawing("html"), "nomogram.html", "text/html")
st.header("Calculator")
if st.toggle("Open the calculator here"):
    with refusals():
        page = model.drawing("html").decode("utf-8")
    st.iframe(page, height=CALCULATOR_HEIGHT, alt="Nomogram calculator")
