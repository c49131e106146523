"""The page Train: the schema as forms and as text, what is open in it, and the start."""

from __future__ import annotations

import hashlib

import streamlit as st
from frame import plain, show_facts, small
from recording import audited
from training import ask, hold, show_parts, trouble

from osml.cohort.columns import Seen
from osml.errors import OsmlError
from osml.study.training import (
    PRESETS,
    Checked,
    Field,
    Form,
    Job,
    Judgement,
    Remark,
    Workspace,
    check,
    choose_models,
    columns_seen,
    judge,
    known_at,
    start,
    stored_table,
    use_input,
)

SHOWN = 8


def edit(space: Workspace, job: Job, trust: bool) -> None:
    """Form or YAML on the left, what is open and the start on the right (on a phone: below)."""
    text = job.text()
    judgement = judge(job, text, trust=trust)
    table = stored_table(job)
    seen = columns_seen(table) if table is not None else {}
    left, right = st.columns([3, 2], gap="large")
    with left:
        view = st.segmented_control("Edit as", ["Form", "YAML"], default="Form", key="train view of schema")
        if view == "YAML":
            _as_text(job, text)
        elif judgement.document is None:
            st.info("The text is not YAML at the moment, so there is no form. Mend it under YAML.")
        else:
            _as_form(job, Form(judgement.document, seen, job.facts()["images"]), seen)
    with right:
        _open_places(text, judgement, in_text=view == "YAML")
        if judgement.ready:
            _checked_start(space, job, judgement, seen, trust)


def _as_text(job: Job, text: str) -> None:
    hold("train field yaml", text)
    st.text_area("Schema", key="train field yaml", height=640, on_change=_text_edited, args=(job,))
    st.markdown(small("What you change here stands in the form, and the other way round. Press Ctrl+Enter to apply."))


def _text_edited(job: Job) -> None:
    try:
        job.write_text(st.session_state["train field yaml"])
    except OsmlError as error:
        trouble(error)


def _as_form(job: Job, form: Form, seen: dict[str, Seen]) -> None:
    names = form.inputs()
    groups = {"Study": form.study(), "Patients": form.patients(), "Outcome": form.target()}
    asked = [field for fields in groups.values() for field in fields if field.asked]
    late = [field for name in names for field in form.input(name) if field.asked]
    if asked or late:
        st.header("Questions that only you can answer")
        for field in asked:
            ask(job, field)
        _inputs_asked(job, form, late)
    for title, fields in groups.items():
        with st.expander(title):
            for field in fields:
                if not field.asked:
                    ask(job, field)
    with st.expander(f"Inputs ({len(names)})"):
        _inputs(job, form, {field.name for field in late})
    with st.expander("Models and validation"):
        _models(job, form)
        for field in form.validation():
            ask(job, field)


def _inputs_asked(job: Job, form: Form, late: list[Field]) -> None:
    """One answer for the moments of all inputs; whatever else is asked of them, one by one."""
    moments = [field for field in late if field.path[-1] == "available"]
    if moments and moments[0].options:
        hold("train field moments", None)
        st.selectbox(
            f"When are the {len(moments)} inputs known whose moment is open?",
            list(moments[0].options),
            key="train field moments",
            format_func=plain,
            placeholder="Choose; single inputs can be changed below",
            on_change=_all_known,
            args=(job, form),
        )
    for field in late:
        if field not in moments:
            st.markdown(f"Input **{plain(field.path[1])}**")
            ask(job, field)


def _all_known(job: Job, form: Form) -> None:
    moment = st.session_state["train field moments"]
    if moment:
        job.write_text(known_at(job.text(), form, moment))


def _inputs(job: Job, form: Form, asked: set[str]) -> None:
    names = form.inputs()
    every = sorted({*names, *job.facts()["aside"]}, key=lambda name: (name not in names, name))
    hold("train field used", names)
    st.pills(
        "Used", every, selection_mode="multi", key="train field used", format_func=plain, on_change=_use,
        args=(job, names), help="An input that is taken out stands no longer in the schema; here it can be put back.",
    )  # fmt: skip
    name = st.selectbox("Look at", names, None, format_func=plain, key="train view of input", placeholder="One input")
    if name is None:
        return
    st.markdown(small(form.evidence(name)))
    for field in form.input(name):
        if field.name not in asked or field.path[-1] == "available":
            ask(job, field)


def _use(job: Job, before: list[str]) -> None:
    wanted = st.session_state["train field used"]
    try:
        for name in {*before} ^ {*wanted}:
            job.write_text(use_input(job, job.text(), name, name in wanted))
    except OsmlError as error:
        trouble(error)


def _models(job: Job, form: Form) -> None:
    choice, options = form.models()
    hold("train field models", choice)
    st.selectbox(
        "Models", list(options), key="train field models", format_func=lambda value: plain(options[value]),
        on_change=_models_chosen, args=(job,), help="Others, and their settings, in the YAML.",
    )  # fmt: skip


def _models_chosen(job: Job) -> None:
    job.write_text(choose_models(job.text(), st.session_state["train field models"]))


def _open_places(text: str, judgement: Judgement, in_text: bool) -> None:
    """How much is open, with lines; questions that stand in the form are not listed twice."""
    st.header("What is open")
    if judgement.ready:
        st.success("The schema is whole.")
        return
    lines = text.splitlines()
    if judgement.problems:
        n = len(judgement.problems)
        st.error(f"{n} error{'s' if n > 1 else ''}")
        _list(judgement.problems, lines)
    if judgement.questions:
        n = len(judgement.questions)
        st.warning(f"{n} question{'s' if n > 1 else ''} to answer")
        if in_text and not judgement.problems:
            _list(judgement.questions, lines)


def _list(remarks: tuple[Remark, ...], lines: list[str]) -> None:
    for remark in remarks[:SHOWN]:
        place = f"**Line {remark.line}** " if remark.line else ""
        with st.container(border=True):
            st.markdown(f"{place}{plain(remark.where)}: {plain(remark.message)}")
            for line in remark.hint.splitlines():
                st.markdown(small(line))
            if 0 < remark.line <= len(lines):
                st.code(lines[remark.line - 1].strip()[:200], language=None)
    if len(remarks) > SHOWN:
        st.markdown(f"… and {len(remarks) - SHOWN} more.")


def _checked_start(space: Workspace, job: Job, judgement: Judgement, seen: dict[str, Seen], trust: bool) -> None:
    checked = _checked(job, trust)
    st.header("Data")
    if checked.error is not None:
        show_parts(checked.error.what, checked.error.why, checked.error.do)
        return
    lost = ", ".join(f"{n} {reason}" for reason, n in checked.excluded.items())
    facts = [("Used", f"{checked.units} {checked.word}")]
    facts += [("Left out", lost)] if lost else []
    show_facts([*facts, *((f"Outcome {name}", str(n)) for name, n in checked.outcomes.items())])
    document = judgement.document
    assert document is not None  # a schema that is whole was read
    form = Form(document, seen, job.facts()["images"])
    for code in dict.fromkeys(finding.code for finding in checked.findings):
        found = [finding for finding in checked.findings if finding.code == code]
        one = found[0]
        state = "stops the study" if one.stops else "accepted" if one.accepted else "a warning"
        with st.expander(f"{plain(one.title)} ({state})", expanded=one.stops):
            for finding in found[:SHOWN]:
                subject = f"{plain(finding.subject)}: " if finding.subject else ""
                st.markdown(subject + plain(finding.evidence))
            if len(found) > SHOWN:
                st.markdown(f"… and {len(found) - SHOWN} more.")
            st.markdown(small(f"{one.code}. {one.why} {one.fix}"))
            if one.stops or one.accepted:
                ask(job, form.acceptance(code))
    _start(space, job, form, checked, trust)


def _checked(job: Job, trust: bool) -> Checked:
    """What `osml check` says of the text as it is; kept in this session only, for the data are patients'."""
    key = hashlib.sha256(f"{job.key} {job.text()}".encode()).hexdigest()
    kept = st.session_state.get("train check")
    if kept is None or kept[0] != key:
        with st.spinner("Checking the data …"):
            kept = (key, check(job, trust=trust))
        st.session_state["train check"] = kept
    found: Checked = kept[1]
    return found


def _start(space: Workspace, job: Job, form: Form, checked: Checked, trust: bool) -> None:
    st.header("Start")
    preset = limit = None
    if form.models()[0] == "auto":
        preset = st.selectbox("How thorough", list(PRESETS), index=0, key="train view of preset")
        limit = st.text_input("Time limit", "10m", help="90s, 10m, 2h or none", key="train view of limit").strip()
    if checked.stops:
        st.info("Mend what stops the study, or give the reason to go on; then it can be started.")
    elif st.button("Start training"):
        try:
            with audited("train"):
                start(space, job, preset=preset, limit=limit or None, trust=trust)
        except OsmlError as error:
            trouble(error)
        st.session_state.pop("train view of job", None)
        st.rerun()
