"""Train: from a table to a published bundle."""

from __future__ import annotations

import os

import streamlit as st
import training
from frame import plain, show_facts, small
from training_editor import edit
from training_run import at_work, ended, outcome

from osml.errors import OsmlError
from osml.nomogram.metadata import NOTICE
from osml.serving.launch import TRUST_VARIABLE
from osml.serving.uploads import MAX_BYTES
from osml.study.training import (
    Job,
    State,
    Workspace,
    columns_seen,
    draft,
    patient_candidates,
    state,
    stored_table,
    take_in,
    workspace,
)

TABLE_MB = MAX_BYTES // 2**20
trust = os.environ.get(TRUST_VARIABLE) == "yes"
_WORDS = {
    "draft": "not started", "running": "at work", "finished": "finished", "failed": "failed",
    "cancelled": "cancelled", "lost": "ended without a word",
}  # fmt: skip


def begin(space: Workspace) -> None:
    """Upload a table, and images where there are any."""
    for job in space.jobs_of(training.user()):
        facts = job.facts()
        words = f"{facts.get('name', 'empty')}, {facts['created'][:10]}, {_WORDS[state(job).stage]}"
        if st.button(plain(words), key=f"open {job.key}"):
            training.choose(job)
            st.rerun()
    st.markdown(
        "Upload a table with one line per patient. A schema is drafted from it, with the evidence for every guess; you "
        "answer what only you can know, and start. The files stay on this server, in a folder of their own, until you "
        "delete the job."
    )
    with st.form("train upload", border=False):
        table = st.file_uploader("Table: CSV (UTF\\-8), TSV or XLSX", max_upload_size=TABLE_MB)
        images = st.file_uploader("Images as a ZIP, if there are any; cells of the table name them by file name")
        st.markdown(small("Study numbers only: no names, birth dates, addresses or record numbers."))
        sent = st.form_submit_button("Read the table")
    if not sent:
        return
    if table is None:
        st.error("Choose a table first.")
        return
    _stored(space, table.getvalue(), None if images is None else images.getvalue(), table.name)


def _stored(space: Workspace, table: bytes, images: bytes | None, name: str) -> None:
    job = None
    try:
        job = space.create(training.user())
        with st.spinner("Reading …"):
            take_in(job, table, images, name)
    except OsmlError as error:
        if job is not None:
            space.delete(job)
        training.show_parts(error.what, error.why, error.do)
        return
    training.choose(job)
    st.rerun()


def first_questions(job: Job) -> None:
    """Patient and outcome: with them the draft has the fewest guesses."""
    table = stored_table(job)
    assert table is not None  # the job has been filled
    facts = job.facts()
    st.header("Two questions first")
    show_facts([("Table", f"{facts['rows']} rows, {facts['columns']} columns")])
    if facts["images"]:
        show_facts([("Columns with images", ", ".join(facts["images"]))])
    columns = patient_candidates(columns_seen(table))
    patient = st.selectbox(
        "Which column names the patient?", columns, None, format_func=plain, placeholder="I will answer later"
    )
    target = st.selectbox(
        "Which column is the outcome?", list(table.columns), None, format_func=plain,
        placeholder="I will answer later", help="Two values, or a follow-up time.",
    )  # fmt: skip
    if st.button("Draft the schema"):
        try:
            draft(job, patient, target)
        except OsmlError as error:
            training.trouble(error)
        st.rerun()


def show(space: Workspace, job: Job) -> None:
    """The job as it stands."""
    if not job.text():
        first_questions(job)
        return
    now = state(job)
    if now.stage == "running":
        at_work(job)
        return
    facts = job.facts()
    show_facts([("Study", facts["name"]), ("Table", f"{facts['rows']} rows, {facts['columns']} columns")])
    ended(now)
    view = "Schema"
    if now.stage == "finished":
        options = ["Results", "Schema"]
        view = st.segmented_control("Show", options, default="Results", key="train view of job") or "Results"
    if view == "Results":
        outcome(job, now, trust)
    else:
        edit(space, job, trust)


def rest(space: Workspace, job: Job, now: State) -> None:
    """Another job, and deleting this one."""
    st.divider()
    with st.expander("Another job, or delete this one"):
        if st.button("Begin another job"):
            training.leave()
            st.rerun()
        st.markdown(
            "Deleting removes the table, the images, the schema and all results of this job from the server. What was "
            "published stays: it holds no patient."
        )
        if now.stage == "running":
            st.markdown("It is at work: cancel it first.")
            return
        sure = st.checkbox("Delete table, images and results")
        if sure and st.button("Delete this job"):
            try:
                space.delete(job)
                training.leave()
                training.done("The job was deleted, with its table, images and results.")
            except OsmlError as error:
                training.trouble(error)
            st.rerun()


st.markdown(f"**{plain(NOTICE)}**")
st.title("Train")
place = workspace()
if place is None:
    st.info("Training is off: start the app with `osml app --train FOLDER`, a folder for uploaded tables and results.")
    st.stop()
    raise AssertionError("st.stop() ends the page")
current = training.current_job(place)
training.tell()
if current is None:
    begin(place)
else:
    show(place, current)
    rest(place, current, state(current))
