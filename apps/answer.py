"""The result for one patient: for whom it holds, the risk with its interval, why, and what to take away."""

from __future__ import annotations

import json

import streamlit as st
from frame import download, plain, refusals, show_facts, show_grid, small
from patient import Patient

from osml.nomogram.metadata import NOTICE
from osml.runs.results import Grid
from osml.serving import FormTable, Model, Row, in_hundred, interval_words, percent, record, statement

PICTURE_WIDTH = 420


def show(model: Model, patient: Patient) -> None:
    """Everything about one prediction."""
    import charts  # Altair takes a second to import, and the empty form needs none of it

    result = patient.result
    st.header("Result")
    show_facts(statement(model))
    if not result.ok:
        st.error(f"No prediction: {plain(result.status)}")
        return
    if model.withheld:
        st.warning(f"No probability is shown: {plain(model.withheld)}")
    answers = model.answers(patient.table, patient.row)
    if answers:
        st.markdown("**Patient:** " + plain("; ".join(f"{a.label} {a.shown}" for a in answers)))
    _regions(patient)
    for k, column in enumerate(model.columns if result.p else ()):
        with st.container(border=True):
            _risk(model, result, k, column)
            charts.icon_array(result.p[k])
    _cautions(model, patient)
    with refusals():
        explanation = model.explain(patient.table, patient.row)
        scores = model.explain_scores(patient.table, patient.row)
    st.header("What moves this prediction")
    st.markdown(small(f"Against {charts.reference(explanation)}. It describes the model, not causes."))
    charts.contributions(explanation)
    for label, inside in scores:
        with st.expander(f"What the {plain(label)} is made of"):
            charts.contributions(inside)
    _downloads(model, patient)
    identity = f"{model.schema.name} / {model.name}, manifest SHA-256 {model.bundle.model_hash}"
    st.markdown(f"**Model:** {plain(identity)}")
    st.markdown(f"**{plain(NOTICE)}**")


def _regions(patient: Patient) -> None:
    """The slice that shows most of each lesion, and what was measured."""
    measured = patient.table.measured if isinstance(patient.table, FormTable) else None
    if measured is None:
        return
    for name, picture in measured.pictures.items():
        words = "Slice with most of the lesion; the outline of the mask is orange."
        st.image(picture, caption=words, alt=words, width=PICTURE_WIDTH)
        rows = tuple(
            (str(line["region"]), f"{line['voxels']:,}", f"{100 * line['clipped_share']:.1f} %")
            for line in measured.regions.get(name, ())
        )
        show_grid(Grid(("Region", "Voxels", "Cut off by the image's border"), rows))


def _risk(model: Model, result: Row, k: int, column: str) -> None:
    p, event = result.p[k], str(model.facts["event"])
    horizon = f" by {column}s" if model.fitted.horizons else ""
    st.markdown(f"### {percent(p)}\n\n**risk of {plain(event + horizon)}**")
    st.markdown(f"Interval: {plain(interval_words(result, k))}")
    words = f"{in_hundred(p)} patients like this are expected to have the event{plain(horizon)}"
    if result.low is not None and result.high is not None:
        words += f" (interval: {in_hundred(result.low[k])} to {in_hundred(result.high[k])})"
    st.markdown(f"{words}.")


def _cautions(model: Model, patient: Patient) -> None:
    result = patient.result
    if result.extrapolated:
        far = ", ".join(model.label(name) for name in result.extrapolated)
        st.warning(f"Outside the training range, so the model extrapolates: {plain(far)}.")
    asked = {field.name for field in model.form()}
    absent = [model.label(name) for name in result.imputed if name not in asked]
    if absent:
        st.warning(f"Do not exist in this image and were taken at the training mean: {plain(', '.join(absent))}.")
    estimated = [model.label(name) for name in result.imputed if name in asked]
    if not estimated:
        return
    st.warning(f"Not given and estimated by the model: {plain(', '.join(estimated))}.")
    gaps = model.gaps(patient.table, patient.row)
    rows = tuple(
        (gap.label, gap.taken, *(f"{percent(a)} to {percent(b)}" for a, b in zip(gap.low, gap.high, strict=True)))
        for gap in gaps
    )
    if rows:
        columns = (
            ("Risk if it were measured",) if len(model.columns) == 1 else tuple(f"Risk by {c}s" for c in model.columns)
        )
        show_grid(
            Grid(("Input", "Taken as", *columns), rows, "Over the range of the training patients, the rest as given.")
        )


def _downloads(model: Model, patient: Patient) -> None:
    st.header("Take away")
    if model.nomogram is not None:
        download(
            "Nomogram sheet with this patient's lines (PDF)",
            lambda: model.sheet(patient.table, patient.row),
            "nomogram_sheet.pdf",
            "application/pdf",
        )
    download(
        "Result (JSON)",
        lambda: json.dumps(record(model, patient.table, patient.row), indent=1, ensure_ascii=False),
        "result.json",
        "application/json",
    )
