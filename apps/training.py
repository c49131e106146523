"""The page Train: which job this browser works on, and a field of the schema as a widget."""

from __future__ import annotations

import streamlit as st
from frame import plain

from osml.errors import OsmlError
from osml.study.training import Field, Job, Workspace, write

_JOB = "train job"
_PARAMETER = "job"
_TROUBLE = "train trouble"
_DONE = "train done"


def user() -> str:
    """Who signed in; "" where nobody does."""
    facts = st.user.to_dict()
    return str(facts.get("sub") or facts.get("email") or "") if facts.get("is_logged_in") else ""


def current_job(space: Workspace) -> Job | None:
    """The job of this session, or the one whose key stands in the address; None before there is one."""
    key = st.session_state.get(_JOB) or st.query_params.get(_PARAMETER)
    if not key:
        return None
    try:
        job = space.open(str(key), user())
    except OsmlError as error:
        leave()
        trouble(error)
        return None
    choose(job)
    return job


def arriving() -> bool:
    """Whether this session begins with the address of a job, made when Train was the only page and so the first."""
    key = st.query_params.get(_PARAMETER)
    if key and _JOB not in st.session_state:
        st.session_state[_JOB] = key
        return True
    return False


def choose(job: Job) -> None:
    """Work on a job: its key goes into the address, so that a closed tab finds it again."""
    if st.session_state.get(_JOB) != job.key:
        forget()
        st.session_state[_JOB] = job.key
    if st.query_params.get(_PARAMETER) != job.key:
        st.query_params[_PARAMETER] = job.key


def leave() -> None:
    """Work on no job."""
    forget()
    st.session_state.pop(_JOB, None)
    st.query_params.pop(_PARAMETER, None)


def forget() -> None:
    """Drop what the session keeps of a job, but not what it has to tell."""
    for key in [key for key in st.session_state if str(key).startswith(("train field ", "train check", "train view"))]:
        del st.session_state[key]


def trouble(error: OsmlError) -> None:
    """Keep an error for the next time the page is drawn."""
    st.session_state[_TROUBLE] = (error.what, error.why, error.do)


def done(words: str) -> None:
    """Keep a message for the next time the page is drawn."""
    st.session_state[_DONE] = words


def tell() -> None:
    """Show what was kept, once."""
    words = st.session_state.pop(_DONE, None)
    if words:
        st.success(plain(words))
    parts = st.session_state.pop(_TROUBLE, None)
    if parts:
        show_parts(*parts)


def show_parts(what: str, why: str = "", do: str = "") -> None:
    """An error in words; what to do may be a list, one line each."""
    lines = [part.strip() for part in do.splitlines() if part.strip()]
    st.error("\n\n".join(plain(part) for part in (what, why, *lines) if part))


def ask(job: Job, field: Field) -> None:
    """A field as a widget; its answer goes straight into the text of the schema."""
    key = f"train field {field.name}"
    hold(key, field.value or (None if field.kind == "choice" else ""))
    label = plain(field.label) + (" (to be answered)" if field.asked else "")
    help_text = plain(field.help) if field.help else None
    if field.kind == "choice":
        hint = "Not given" if field.optional else "Choose"
        st.selectbox(
            label,
            list(field.options),
            key=key,
            format_func=lambda value: _words(field, value),
            placeholder=hint,
            help=help_text,
            on_change=_answer,
            args=(job, field, key),
        )
    else:
        st.text_input(label, key=key, help=help_text, on_change=_answer, args=(job, field, key))


def hold(key: str, value: object) -> None:
    """Put a value into a widget, unless it stands there: what is set anew overwrites what is being typed."""
    if key not in st.session_state or st.session_state[key] != value:
        st.session_state[key] = value


def _words(field: Field, value: str) -> str:
    words = field.options[value]
    return plain(value if words == value else f"{value}: {words}" if len(words) > 12 else words)


def _answer(job: Job, field: Field, key: str) -> None:
    from osml.study.training import columns_seen, stored_table

    try:
        table = stored_table(job)
        job.write_text(write(job.text(), field, st.session_state[key], columns_seen(table) if table else {}))
    except OsmlError as error:
        trouble(error)
