"""The form of a model: widgets without defaults, in the units the reader chooses."""

from __future__ import annotations

import streamlit as st
from frame import plain
from patient import generation

from osml.serving import Field, Model

UNKNOWN = "\x18"
FEW = 6


def ask_units(fields: tuple[Field, ...]) -> dict[str, str]:
    """Units in which values will be typed; outside the form, so that the labels follow at once."""
    several = [f for f in fields if len(f.units) > 1]
    chosen: dict[str, str] = {}
    if several:
        with st.expander("Enter values in other units"):
            for field in several:
                key = f"unit {generation()} {field.name}"
                chosen[field.name] = st.selectbox(
                    f"Unit of {plain(field.label)}", field.units, format_func=plain, key=key
                )
    return chosen


def ask(model: Model) -> tuple[dict[str, str], dict[str, str], bool] | None:
    """The answers, their units, and whether gaps are meant; None until the form is sent."""
    fields = model.form()
    units = ask_units(fields)
    missing = any(f.may_be_missing for f in fields)
    with st.form(f"form {generation()}", enter_to_submit=False):
        cells: dict[str, str] = {}
        for field in fields:
            cells |= _ask(field.in_unit(units[field.name]) if field.name in units else field)
        gaps = missing and st.checkbox(
            "Unanswered inputs are unknown: let the model estimate them",
            key=f"gaps {generation()}",
        )
        if not missing:
            st.markdown(":small[Every input is needed: the model was not trained to do without any.]")
        sent = st.form_submit_button("Predict", type="primary")
    return (cells, units, bool(gaps)) if sent else None


def unanswered(model: Model, cells: dict[str, str]) -> list[str]:
    """Labels of inputs that were left empty, those said to be unknown not counted."""
    return [f.label for f in model.form() if not cells.get(f.name, "").strip()]


def _ask(field: Field) -> dict[str, str]:
    key = f"cell {generation()} {field.name}"
    if field.kind == "category":
        options = [*field.levels, *((UNKNOWN,) if field.may_be_missing else ())]
        words = {UNKNOWN: "unknown"}

        def shown(option: str) -> str:
            return words.get(option) or plain(option)

        if len(options) <= FEW:
            choice = st.pills(plain(field.label), options, format_func=shown, key=key)
        else:
            choice = st.selectbox(plain(field.label), options, None, format_func=shown, key=key, placeholder="Choose")
        return {field.name: choice or ""}
    cells = {field.name: st.text_input(_label(field), key=key, autocomplete="off") or ""}
    for side, word in ((field.kit_low, "lower"), (field.kit_high, "upper")):
        if side is not None:
            label = f"{plain(field.label)}: {word} limit of the assay's range ({plain(field.unit)})"
            cells[side] = st.text_input(label, key=f"{key} {side}", autocomplete="off") or ""
    return cells


def _label(field: Field) -> str:
    """Name, unit and ranges in plain words: a screen reader reads the label as it stands."""
    parts = [field.unit] if field.unit else []
    if field.training is not None:
        parts.append(f"training {field.training[0]:.4g} to {field.training[1]:.4g}")
    if field.limits is not None:
        parts.append(f"possible {field.limits[0]:.4g} to {field.limits[1]:.4g}")
    return plain(f"{field.label} ({'; '.join(parts)})" if parts else field.label)
