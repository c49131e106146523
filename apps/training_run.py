"""The page Train: a job at work, and what came of it."""

from __future__ import annotations

import streamlit as st
from frame import download, plain, show_facts, show_grid, small
from recording import audited
from training import done, show_parts, trouble

from osml.errors import OsmlError
from osml.study.training import (
    Job,
    State,
    cancel,
    failures,
    progress,
    publish,
    registry,
    report_html,
    result,
    results_zip,
    running,
)

_EVERY_S = 2
_REASONS = 5


def at_work(job: Job) -> None:
    """Progress that draws itself anew, and the way to stop it."""
    st.header("Training")
    _progress(job)
    st.markdown(
        "It goes on when this tab is closed. The address of this page leads back to it: keep it, and keep it to "
        "yourself, for it opens the job."
    )
    if st.button("Cancel", help="Finished folds are kept; starting again goes on with them."):
        try:
            with st.spinner("Stopping …"):
                kept = cancel(job)
            done(f"Stopped. {kept} finished folds are kept: starting again goes on with them.")
        except OsmlError as error:
            trouble(error)
        st.rerun()


@st.fragment(run_every=_EVERY_S)
def _progress(job: Job) -> None:
    if not running(job):
        st.rerun()
    now = progress(job)
    minutes, seconds = divmod(int(now.seconds), 60)
    share = min(1.0, now.done / now.total) if now.total else 0.0
    folds = f", {now.done} of {now.total} folds" if now.total else ""
    st.progress(share, text=f"{plain(now.words)}{folds}, {minutes}:{seconds:02d}")
    if now.lines:
        with st.expander("What it says"):
            st.code("\n".join(now.lines), language=None, wrap_lines=True)


def ended(state: State) -> None:
    """How an earlier start ended, where it gave no results."""
    if state.stage == "failed":
        error = state.outcome["error"]
        show_parts(error["what"], error["why"], error["do"])
    if state.stage == "cancelled":
        st.info("This job was cancelled. Starting it again goes on with the folds that were finished.")
    if state.stage == "lost":
        show_parts(
            "the process of this job ended without a word",
            "It was killed, ran out of memory, or the machine was started anew.",
            "Start it again: finished folds are kept.",
        )


def outcome(job: Job, state: State, trust: bool) -> None:
    """Headline, files to take away, and publishing."""
    if state.changed:
        st.info("The schema was changed since. These are the results of the one before; start again for new ones.")
    results = result(job)
    board = results.leaderboard()
    st.header("Results")
    if board is not None:
        show_grid(board, "Held-out performance")
    if state.outcome["failed"]:
        st.warning(f"Failed in a fold or at the end: {plain(', '.join(state.outcome['failed']))}.")
        for reason in failures(job)[1][:_REASONS]:
            st.markdown(small(reason))
    if state.outcome["skipped"]:
        st.warning(f"Left out for time: {plain(', '.join(state.outcome['skipped']))}.")
    st.header("Take away")
    html = report_html(job)
    with st.container(horizontal=True):
        if html is not None:
            download("Report", html, "report.html", "text/html")
        download("Report, tables and figures", lambda: results_zip(job), "results.zip", "application/zip")
        if state.outcome["failed"]:
            download("Failures", failures(job)[0], "failures.csv", "text/csv")
    st.markdown(small("None of these files has a line per patient."))
    _publish(job, trust)


def _publish(job: Job, trust: bool) -> None:
    st.header("Publish")
    published = job.facts().get("published", [])
    if published:
        show_facts([("Published as", ", ".join(published))])
    st.markdown(
        "Publishing copies the models, without any patient, to where this app finds them: everybody who uses it can "
        "then predict with them. The copy is verified first, and nothing is overwritten."
    )
    suggested = "".join(c if c.isalnum() and c.isascii() else "-" for c in str(job.facts().get("name", ""))).lower()
    name = st.text_input("Name of the published model", suggested.strip("-"), key="train view of name")
    if st.button("Publish"):
        try:
            with st.spinner("Verifying the bundle …"), audited("publish"):
                publish(job, name.strip(), registry(), trust=trust)
            done(f"Published as {name.strip()}. It can be chosen under Study in the sidebar.")
        except OsmlError as error:
            trouble(error)
        st.rerun()
