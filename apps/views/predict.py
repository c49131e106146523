"""Predict one patient from a form, or many from a table."""

from __future__ import annotations

import answer
import patient
import streamlit as st
from answers import UNKNOWN, ask, contradictions, unanswered
from frame import current_model, download, heading, plain, refusals
from recording import audited

from osml.cohort.table import Table
from osml.serving import Row, read_upload, rows_csv, rows_table, table_with_files

MANY = "many patients"

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
                unknown = any(f.may_be_missing and f.label in left_out for f in (*model.form(), *model.images()))
                how = ", or say that they are unknown" if unknown and not sent.gaps else ""
                st.error(f"Not answered: {plain(', '.join(left_out))}. Fill them in{how}.")
                return
            both = contradictions(model, sent)
            if both:
                st.error(f"Given, and said to be unknown: {plain(', '.join(both))}. Only one of them can be.")
                return
            cells = {name: "" if text == UNKNOWN else text for name, text in sent.cells.items()}
            with (
                refusals(),
                st.spinner("Reading the images …" if sent.files else "Predicting …"),
                audited("predict", model, cells, sent.units, sent.files) as told,
            ):
                table = model.one_row(cells, sent.units, sent.files or None)
                rows = told.predicted(table, model.predict(table))
            patient.remember(model, table, 0, rows[0])
        one = patient.current(model)
        if one is None or not one.from_form:
            st.info("Fill in the form and press Predict. Nothing is filled in for you.")
        else:
            answer.show(model, one)


def read_table_alone() -> tuple[Table, list[Row]] | None:
    """A table of a model without images, read as soon as it is here."""
    upload = st.file_uploader("Table of patients", key=f"upload {patient.generation()}")
    if upload is None:
        return None
    with refusals(), audited("predict table", model, upload.getvalue()) as told:
        table = read_upload(upload.getvalue(), model)
        rows = told.predicted(table, model.predict(table))
    return table, rows


def read_table_with_files() -> tuple[Table, list[Row]] | None:
    """A table and the images that its cells name; measured when it is asked for, and kept in this session."""
    st.markdown(
        "The images that the table names come with it: several files, or ZIP archives of them. They are matched by the "
        "file's name, folders left out; a file that no cell names, or a cell without its file, is an error."
        + (" A cell may name a folder with the slices of one DICOM series." if _volumes() else "")
    )
    upload = st.file_uploader("Table of patients", key=f"upload {patient.generation()}")
    files = st.file_uploader(
        "Images that the table names", accept_multiple_files=True, key=f"uploads {patient.generation()}"
    )
    asked = st.button("Predict all", type="primary", disabled=upload is None)
    if upload is None:
        return None
    given = (model.bundle.model_hash, model.name, upload.file_id, *(one.file_id for one in files))
    if asked:
        st.session_state.pop(MANY, None)
        bar = st.progress(0.0, "Reading the images …")
        sent = upload.getvalue(), [one.getvalue() for one in files]
        with refusals(), audited("predict table", model, *sent) as told:
            table = read_upload(upload.getvalue(), model)
            named = [(one.name, one.getvalue()) for one in files]
            table = table_with_files(table, named, model, say=lambda k, n: bar.progress(k / n, f"Patient {k} of {n}"))
            rows = told.predicted(table, model.predict(table))
        st.session_state[MANY] = (given, table, rows)
        bar.empty()
    kept = st.session_state.get(MANY)
    return (kept[1], kept[2]) if kept is not None and kept[0] == given else None


def _volumes() -> bool:
    return any(image.kind == "volume" for image in model.images())


def many_patients() -> None:
    """A table in, one row out for every row in."""
    id_column = model.schema.cohort.row or model.schema.cohort.patient
    columns = [field.column for field in (*model.form(), *model.images())]
    st.markdown(
        "CSV (UTF\\-8), TSV or XLSX with the columns "
        + ", ".join(f"**{plain(column)}**" for column in columns)
        + f" and, if you like, the pseudonym **{plain(id_column)}**. No names, birth dates or other identifiers."
    )
    found = read_table_with_files() if model.images() else read_table_alone()
    if found is None:
        return
    table, rows = found
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
