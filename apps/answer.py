"""The result for one patient: the risk with its interval, for whom it holds, why, and what to take away."""

from __future__ import annotations

import json

import streamlit as st
from frame import download, plain, refusals, show_facts, show_grid, small
from patient import Patient

from osml.nomogram.metadata import NOTICE
from osml.runs.results import Grid
from osml.serving import (
    EQUAL_SHARES,
    Model,
    Row,
    frequency_words,
    interval_words,
    measured_of,
    patient_sheet,
    percent,
    record,
    risk_words,
    sheet_refusal,
    statement,
    undecided_words,
)


def show(model: Model, patient: Patient) -> None:
    """Everything about one prediction."""
    import charts  # Altair takes a second to import, and the empty form needs none of it

    result = patient.result
    st.header("Result")
    if not result.ok:
        st.error(f"No prediction: {plain(result.status)}")
        show_facts(statement(model))
        return
    if model.withheld:
        st.warning(f"No probability is shown: {plain(model.withheld)}")
    if model.classes and result.p:
        _classes(model, result)
    for k in range(len(model.columns) if result.p and not model.classes else 0):
        with st.container(border=True):
            _risk(model, result, k)
            charts.icon_array(result.p[k])
    if not model.classes:
        _decided(model, result)
    _cautions(model, patient)
    answers = model.answers(patient.table, patient.row)
    if answers:
        st.markdown("**Patient:** " + plain("; ".join(f"{a.label} {a.shown}" for a in answers)))
    st.subheader("For whom this holds")
    show_facts(statement(model))
    _regions(patient)
    _pictures(model, patient)
    with refusals():
        explanation = model.explain(patient.table, patient.row)
        scores = model.explain_scores(patient.table, patient.row)
    st.header("What moves this prediction")
    st.markdown(small(f"Against {charts.reference(explanation)}. It describes the model, not causes."))
    charts.contributions(explanation)
    if model.networked and model.images():
        st.markdown(small("Where the pictures raise the score, and how inputs are weighed: see the page Explain."))
    for label, inside in scores:
        with st.expander(f"What the {plain(label)} is made of"):
            charts.contributions(inside)
    _downloads(model, patient)
    identity = f"{model.schema.name} / {model.name}, manifest SHA-256 {model.bundle.model_hash}"
    st.markdown(f"**Model:** {plain(identity)}")
    st.markdown(f"**{plain(NOTICE)}**")


def _regions(patient: Patient) -> None:
    """The slice that shows most of each lesion, and what was measured."""
    measured = measured_of(patient.table, patient.row)
    if measured is None:
        return
    for name, picture in measured.pictures.items():
        words = "Slice with most of the lesion; the outline of the mask is orange."
        st.image(picture, caption=words, alt=words, width="stretch")
        rows = tuple(
            (str(line["region"]), f"{line['voxels']:,}", f"{100 * line['clipped_share']:.1f} %")
            for line in measured.regions.get(name, ())
        )
        show_grid(Grid(("Region", "Voxels", "Cut off by the image's border"), rows))


def _pictures(model: Model, patient: Patient) -> None:
    """What a network was given to look at."""
    measured = measured_of(patient.table, patient.row)
    for name, pictures in measured.shown.items() if measured is not None else ():
        for k, picture in enumerate(pictures):
            words = model.label(name) + (f", picture {k + 1} of {len(pictures)}" if len(pictures) > 1 else "")
            st.image(picture, caption=plain(words), alt=words, width="stretch")


def _classes(model: Model, result: Row) -> None:
    """Probability of every class as bars and as a table; which one is predicted, or that the model leaves it open."""
    import charts

    with st.container(border=True):
        p = dict(zip(model.columns, result.p, strict=True))
        if result.inside is not None and result.undecided:
            st.markdown(f"### undecided\n\n{plain(undecided_words(result))}")
            st.markdown(f"Most probable: **{plain(result.predicted)}**, {percent(p[result.predicted])}.")
        else:
            st.markdown(f"### {plain(result.predicted)}\n\n**most probable class: {percent(p[result.predicted])}**")
        if model.equal_shares:
            st.markdown(small(f"{EQUAL_SHARES}."))
        charts.class_bars(model.classes, result.p, model.columns, result.inside)
        st.markdown("Interval: no interval available")
        _standing(model)


def _decided(model: Model, result: Row) -> None:
    """Of an event: the prediction set, where the model makes one."""
    if result.inside is None:
        return
    words = undecided_words(result) if result.undecided else f"Decided: {result.inside[0]}."
    st.markdown(f"**Prediction set.** {plain(words)}")


def _risk(model: Model, result: Row, k: int) -> None:
    st.markdown(f"### {percent(result.p[k])}\n\n**risk of {plain(risk_words(model, k))}**")
    st.markdown(f"Interval: {plain(interval_words(result, k))}")
    st.markdown(plain(frequency_words(model, result, k)))
    _standing(model)


def _standing(model: Model) -> None:
    """In the card itself: when it holds and how far the model was validated, so that no number stands without it."""
    told = dict(statement(model))
    st.markdown(small(f"At {told['Time of prediction']}; {told['Validation']}."))


def _cautions(model: Model, patient: Patient) -> None:
    result = patient.result
    if result.extrapolated:
        far = ", ".join(model.label(name) for name in result.extrapolated)
        st.warning(f"Outside the training range, so the model extrapolates: {plain(far)}.")
    if result.missing:
        gone = ", ".join(model.label(name) for name in result.missing)
        st.warning(f"Not given, so the network does without: {plain(gone)}. It answers as for patients who lack it.")
    asked = {field.name for field in model.form()}
    absent = [model.label(name) for name in result.imputed if name not in asked]
    if absent:
        st.warning(f"Do not exist in this image and were taken at the training mean: {plain(', '.join(absent))}.")
    estimated = [model.label(name) for name in result.imputed if name in asked]
    if estimated:
        st.warning(f"Not given and estimated by the model: {plain(', '.join(estimated))}.")
    if not estimated and not result.missing:
        return
    gaps = model.gaps(patient.table, patient.row)
    rows = tuple(
        (gap.label, gap.taken, *(f"{percent(a)} to {percent(b)}" for a, b in zip(gap.low, gap.high, strict=True)))
        for gap in gaps
    )
    if rows:
        one = "Risk if it were measured" if len(model.columns) == 1 else ""
        columns = (one,) if one else tuple(f"P({c})" if model.classes else f"Risk by {c}s" for c in model.columns)
        note = "Over the range of the training patients, the rest as given."
        show_grid(Grid(("Input", "Taken as", *columns), rows, note))


def _downloads(model: Model, patient: Patient) -> None:
    st.header("Take away")
    refused = sheet_refusal(model)
    if refused:
        st.markdown(small(f"There is no sheet to print: {refused}."))
    else:
        download(
            "Sheet of this patient (PDF)",
            lambda: patient_sheet(model, patient.table, patient.row),
            "patient_sheet.pdf",
            "application/pdf",
        )
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
