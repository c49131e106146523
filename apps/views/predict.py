"""Predict one patient from a form, or many from a table."""

from __future__ import annotations

import answer
import patient
import streamlit as st
from answers import UNKNOWN, ask, unanswered
from frame import current_model, download, heading, plain, refusals

from osml.serving import read_upload, rows_csv, rows_table

model = current_model()
heading("Predict", model)
mode = st.segmented_control(
    "Patients", ["One patient", "A table"], default="One patient", key=f"mode {patient.generation()}"
)


def one_patient() -> None:
    """Form on the left (on a phone: above), result beside it."""
    left, right = st.columns([2, 3], gap="large")
    with left:
        st.header("Patient")
        sent = ask(model)
    with right:
        if sent is not None:
            patient.forget()
            left_out = unanswered(model, sent)
            if left_out:
                unknown = not sent.gaps and any(f.may_be_missing and f.label in left_out for f in model.form())
                how = ", or say below the form that they are unknown" if unknown else ""
                st.error(f"Not answered: {plain(', '.join(left_out))}. Fill them in{how}.")
                return
            cells = {name: "" if text == UNKNOWN else text for name, text in sent.cells.items()}
            with refusals(), st.spinner("Reading the images …" if sent.files else "Predicting …"):
                table = model.one_row(cells, sent.units, sent.files or None)
                patient.remember(model, table, 0, model.predict(table)[0])
        one = patient.current(model)
        if one is None or not one.from_form:
            st.info("Fill in the form and press Predict. Nothing is filled in for you.")
        else:
            answer.show(model, one)


def many_patients() -> None:
    """A table in, one row out for every row in."""
    id_column = model.schema.cohort.row or model.schema.cohort.patient
    if model.images():
        st.info(
            "This model reads images, and the paths in an uploaded table are not followed. Predict patients one by one "
            "with their files, or many of them with the command `osml predict`."
        )
        return
    st.markdown(
        "CSV (UTF\\-8), TSV or XLSX with the columns "
        + ", ".join(f"**{plain(f.column)}**" for f in model.form())
        + f" and, if you like, the pseudonym **{plain(id_column)}**. No names, birth dates or other identifiers."
    )
    upload = st.file_uploader("Table of patients", key=f"upload {patient.generation()}")
    if upload is None:
        return
    with refusals():
        table = read_upload(upload.getvalue(), model)
        rows = model.predict(table)
    bad = sum(not row.ok for row in rows)
    st.header("Results")
    st.markdown(
        f"{len(rows) - bad} of {len(rows)} rows predicted"
        + (f"; {bad} have no prediction, see `status`." if bad else ".")
    )
    if model.withheld:
        st.warning(f"No probability is shown: {plain(model.withheld)}")
    header, lines = rows_table(model, rows)
    st.dataframe(
        [dict(zip(header, line, strict=True)) for line in lines],
        hide_index=True,
        alt="One line per row of the uploaded table",
    )
    download("Results as CSV", rows_csv(model, rows), "predictions.csv", "text/csv")
    usable = [i for i, row in enumerate(rows) if row.ok]
    if not usable:
        return
    index = st.selectbox(
        "Show one patient",
        usable,
        None,
        format_func=lambda i: plain(f"line {rows[i].line}: {rows[i].unit or 'no id'}"),
        placeholder="Choose a row",
        key=f"row {patient.generation()}",
    )
    if index is not None:
        patient.remember(model, table, index, rows[index])
        one = patient.current(model)
        if one is not None:
            answer.show(model, one)


if mode == "A table":
    many_patients()
else:
    one_patient()
