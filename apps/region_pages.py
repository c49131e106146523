"""What the pages show of models that map tissue on slides."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st
from frame import plain, show_figure, show_grid

from osml.runs.results import Results
from osml.serving import RegionModel, class_grid, refiner_grid


def show_performance(model: RegionModel, results: Results | None) -> None:
    """Held-out measures of the maps and classes, errors of the necrosis rate, what refinement gains."""
    if "maps" not in model.own:
        st.warning(plain(model.own.get("reason", "This model was not judged on held-out slides.")))
        return
    st.markdown(f"{model.own['patients']} patients, {model.own['slides']} annotated slides, each held out once.")
    st.header("Maps")
    show_grid(refiner_grid(model))
    st.header("Each class")
    show_grid(class_grid(model))
    limit = model.own.get("detection_limit") or {}
    if limit.get("mm2") is not None:
        words = f"Viable areas of {limit['mm2']:.3g} mm² or more are found in {100 * limit['sensitivity']:.0f} %."
        st.markdown(plain(words))
    elif limit.get("reason"):
        st.markdown(plain(f"From which area viable tumour is found reliably is not known: {limit['reason']}."))
    if results is None:
        st.info("The figures of the report are not here: this bundle lies outside its run.")
        return
    for figure in results.figures("necrosis", model.name):
        # Its numbers are of single patients, which stay in the report.
        drawn = replace(figure, data=None)
        show_figure(drawn, "Necrosis rate of held-out patients, reference against prediction")
