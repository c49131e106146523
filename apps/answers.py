"""The form of a model: widgets without defaults, in the units the reader chooses, and files where it reads images."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st
from frame import plain, small
from patient import generation

from osml.serving import Field, ImageField, Model

UNKNOWN = "\x18"
FEW = 6
NEEDED = "must be given"
FORMATS = {
    "volume": "NIfTI (.nii, .nii.gz), NRRD (.nrrd) or MetaImage (.mha), or a DICOM series: its files or a ZIP of them",
    "image": "PNG, JPEG, TIFF or DICOM",
}


@dataclass(frozen=True)
class Given:
    """What was sent: cells and their units by input, files by their key, inputs that are said to be unknown, and
    whether all that is empty is."""

    cells: dict[str, str]
    units: dict[str, str]
    files: dict[str, list[bytes]]
    unknown: frozenset[str]
    gaps: bool

    def goes_without(self, name: str) -> bool:
        """Whether an empty input is meant: it, or everything that is empty, is said to be unknown."""
        return self.gaps or name in self.unknown


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


def ask(model: Model) -> Given | None:
    """The answers; None until the form is sent."""
    fields = model.form()
    units = ask_units(fields)
    images = model.images()
    missing = any(f.may_be_missing for f in (*fields, *images))
    with st.form(f"form {generation()}", enter_to_submit=False):
        cells: dict[str, str] = {}
        unknown: set[str] = set()
        for field in fields:
            cells |= _ask(field.in_unit(units[field.name]) if field.name in units else field, unknown)
        gaps = missing and st.checkbox(
            "Unanswered inputs are unknown: let the model do without them"
            if model.does_without
            else "Unanswered inputs are unknown: let the model estimate them",
            key=f"gaps {generation()}",
        )
        if fields and not missing:
            st.markdown(":small[Every input is needed: the model was not trained to do without any.]")
        files = _ask_files(images, unknown)
        sent = st.form_submit_button("Predict", type="primary")
    return Given(cells, units, files, frozenset(unknown), bool(gaps)) if sent else None


def unanswered(model: Model, given: Given) -> list[str]:
    """Labels of inputs that were left empty although they are needed, those said to be unknown not counted."""
    empty = [f for f in model.form() if not given.cells.get(f.name, "").strip()]
    out = [f.label for f in empty if not (given.goes_without(f.name) and f.may_be_missing)]
    images = [image for image in model.images() if image.key not in given.files]
    return out + [i.label for i in images if not (given.goes_without(i.key.partition(".")[0]) and i.may_be_missing)]


def contradictions(model: Model, given: Given) -> list[str]:
    """Labels of inputs that were given and are said to be unknown."""
    out = [f.label for f in model.form() if f.name in given.unknown and given.cells.get(f.name, "").strip()]
    return out + [i.label for i in model.images() if i.key.partition(".")[0] in given.unknown and i.key in given.files]


def _ask_files(images: tuple[ImageField, ...], unknown: set[str]) -> dict[str, list[bytes]]:
    """One uploader an input; the names of the files play no part. Adds to `unknown` what is said to be."""
    if not images:
        return {}
    kinds = " or ".join(dict.fromkeys(FORMATS[image.kind] for image in images))
    words = [f"Images: {kinds}."]
    words += ["A mask is drawn on the image it belongs to."] if any("." in image.key for image in images) else []
    words.append("The files are read on this machine and then forgotten; features and a picture stay in this session.")
    if any(image.kind == "image" for image in images):
        words.append("No name may stand in a picture: DICOM files that say so are refused, of others nobody can know.")
    words += [] if all(image.may_be_missing for image in images) else ["An image is always needed."]
    st.markdown(small(" ".join(words)))
    found: dict[str, list[bytes]] = {}
    for image in images:
        key = f"file {generation()} {image.key}"
        label = plain(image.label)
        if image.several or image.kind == "volume":
            words = f"{label} (one or several)" if image.several else label
            uploads = st.file_uploader(words, accept_multiple_files=True, key=key)
        else:
            one = st.file_uploader(label, key=key)
            uploads = [] if one is None else [one]
        if uploads:
            found[image.key] = [upload.getvalue() for upload in uploads]
        if image.may_be_missing and "." not in image.key:
            _may_be_unknown(image.key, image.label, unknown)
    return found


def _may_be_unknown(name: str, label: str, unknown: set[str]) -> None:
    if st.checkbox(f"{plain(label)} is unknown", key=f"gap {generation()} {name}"):
        unknown.add(name)


def _ask(field: Field, unknown: set[str]) -> dict[str, str]:
    key = f"cell {generation()} {field.name}"
    if field.kind == "category":
        options = [*field.levels, *((UNKNOWN,) if field.may_be_missing else ())]
        words = {UNKNOWN: "unknown"}

        def shown(option: str) -> str:
            return words.get(option) or plain(option)

        label = plain(field.label if field.may_be_missing else f"{field.label} ({NEEDED})")
        if len(options) <= FEW:
            choice = st.pills(label, options, format_func=shown, key=key)
        else:
            choice = st.selectbox(label, options, None, format_func=shown, key=key, placeholder="Choose")
        return {field.name: choice or ""}
    cells = {field.name: st.text_input(_label(field), key=key, autocomplete="off") or ""}
    for side, word in ((field.kit_low, "lower"), (field.kit_high, "upper")):
        if side is not None:
            label = f"{plain(field.label)}: {word} limit of the assay's range ({plain(field.unit)})"
            cells[side] = st.text_input(label, key=f"{key} {side}", autocomplete="off") or ""
    if field.may_be_missing:
        _may_be_unknown(field.name, field.label, unknown)
    return cells


def _label(field: Field) -> str:
    """Name, unit and ranges in plain words: a screen reader reads the label as it stands."""
    parts = [field.unit] if field.unit else []
    if field.training is not None:
        parts.append(f"training {field.training[0]:.4g} to {field.training[1]:.4g}")
    if field.limits is not None:
        parts.append(f"possible {field.limits[0]:.4g} to {field.limits[1]:.4g}")
    parts += [] if field.may_be_missing else [NEEDED]
    return plain(f"{field.label} ({'; '.join(parts)})" if parts else field.label)
