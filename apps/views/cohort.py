"""Who the patients were: counts only, and only where the run's folder is at hand."""

from __future__ import annotations

import streamlit as st
from frame import current_model, current_results, heading, plain, refusals, show_grid, small

from osml.runs.results import Grid

model = current_model()
heading("Cohort", model)
results = current_results()
if results is None:
    st.info(
        "This is a bundle without its run. A bundle holds nothing about its patients, so there is no cohort to show."
    )
    st.stop()
    raise AssertionError("st.stop() ends the page")
with refusals():
    st.header("Patients")
    show_grid(results.flow())
    table_one = results.tables("table_one").get("table_one")
    if table_one is not None:
        st.header("Table one")
        show_grid(table_one)
    st.header("Missing values")
    labels = {name: block.label or name for name, block in model.schema.inputs.items()}
    missing = results.missing()
    show_grid(Grid(missing.header, tuple((labels.get(row[0], row[0]), *row[1:]) for row in missing.rows)))
    st.header("Checks")
    checks = results.checks()
    for code, severity, title, subject, evidence, accepted in checks.rows:
        with st.container(border=True):
            st.markdown(
                f"**{plain(code)}** ({plain(severity)}) {plain(title)}" + (f": {plain(subject)}" if subject else "")
            )
            if evidence:
                st.markdown(small(evidence))
            if accepted:
                st.markdown(f"Accepted: {plain(accepted)}")
    if not checks.rows:
        st.markdown("No check fired.")
