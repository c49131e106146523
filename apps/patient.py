"""The patient of this browser session: kept in the session's memory only, gone when it is cleared or closed."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st
from frame import refusals
from recording import KEPT, note

from osml.cohort.table import Table
from osml.serving import FormTable, Model, Row, SlideJob

_KEY = "patient"
_GENERATION = "generation"
ANSWERS = ("cell ", "unit ", "gap ", "gaps ")


@dataclass(frozen=True)
class Patient:
    """One row of a table (of a form, or an uploaded one) and the result for it."""

    table: Table
    row: int
    result: Row
    model_hash: str
    predictor: str

    @property
    def from_form(self) -> bool:
        return isinstance(self.table, FormTable)


def remember(model: Model, table: Table, row: int, result: Row) -> None:
    """Keep a patient for the other pages."""
    st.session_state[_KEY] = Patient(table, row, result, model.bundle.model_hash, model.name)


def forget() -> None:
    """Drop the patient but keep what stands in the form."""
    st.session_state.pop(_KEY, None)


def current(model: Model) -> Patient | None:
    """The patient, if the prediction is this model's."""
    patient = st.session_state.get(_KEY)
    if patient is None or (patient.model_hash, patient.predictor) != (model.bundle.model_hash, model.name):
        return None
    return patient


def keep_answers() -> None:
    """Streamlit forgets the widgets of a page that is left; assigning their state keeps it."""
    for key in list(st.session_state):
        if str(key).startswith(ANSWERS):
            st.session_state[key] = st.session_state[key]


def generation() -> int:
    """Part of every widget's key: another number makes empty widgets."""
    number: int = st.session_state.setdefault(_GENERATION, 0)
    return number


def clear() -> None:
    """Remove everything about any patient: answers, uploads, results. It is recorded after it was done."""
    number = generation()
    for key in [key for key in st.session_state if not str(key).startswith(("model", KEPT))]:
        value = st.session_state[key]
        if isinstance(value, SlideJob):
            value.close()
        del st.session_state[key]
    st.query_params.clear()  # the key of a training job may stand there
    st.session_state[_GENERATION] = number + 1
    with refusals():
        note("clear")


def clear_button() -> None:
    """In the sidebar of every page."""
    st.sidebar.button(
        "Clear patient data", on_click=clear, help="Removes answers, uploads and results of this session."
    )
