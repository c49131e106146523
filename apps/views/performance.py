"""How good the model is on patients it was not fitted to."""

from __future__ import annotations

from typing import Any

import charts
import streamlit as st
from frame import current_model, current_results, heading, plain, refusals, rounded, show_figure, show_grid, small

from osml.runs.results import Figure, Grid

NAMES = {
    "auc": "AUC (C)",
    "c": "Harrell's C",
    "slope": "Calibration slope",
    "intercept": "Calibration intercept",
    "brier": "Brier score",
    "scaled_brier": "Scaled Brier score",
    "r2": "R² (Nagelkerke)",
}


def number(value: Any) -> str:
    """A measure as text."""
    return f"{value:.3f}" if isinstance(value, int | float) else ""


def measures(facts: dict[str, Any]) -> Grid:
    """Apparent, optimism-corrected and held-out values side by side."""
    apparent, corrected = facts.get("apparent", {}), facts.get("optimism_corrected", {})
    honest = facts.get("out_of_fold", {})
    rows = []
    for key, name in NAMES.items():
        cells = [block.get(key, {}) for block in (honest, corrected, apparent)]
        if not any(isinstance(cell, dict) and cell for cell in cells):
            continue
        out = cells[0]
        span = f"{out['low']:.3f} to {out['high']:.3f}" if out.get("low") is not None else ""
        value = number(out.get("value")) or str(out.get("reason", ""))
        rows.append((name, value, span, number(cells[1].get("value")), number(cells[2].get("value"))))
    header = ("Measure", "Held out", "Interval", "Optimism-corrected", "Apparent")
    return Grid(header, tuple(rows), str(honest.get("auc", honest.get("c", {})).get("interval", "")))


model = current_model()
heading("Performance", model)
st.markdown(
    f"**{plain(str(model.facts['validation']).capitalize())}.** Every number here is of patients of this study."
)
facts = model.facts["predictors"].get(model.name, {})
st.header("This model")
show_grid(measures(facts))
if "reason" in facts.get("out_of_fold", {}):
    st.warning(plain(facts["out_of_fold"]["reason"]))
results = current_results()
if results is not None:
    with refusals():
        leaderboard = results.leaderboard()
    if leaderboard is not None:
        st.header("All models of this study")
        show_grid(leaderboard)
    comparisons = results.metrics().get("comparisons") or []
    for one in comparisons:
        if "difference" in one:
            words = f"{one['first']} - {one['second']}: {one['measure']} {one['difference']:+.3f}"
            if one.get("low") is not None:
                words += f" ({one['low']:+.3f} to {one['high']:+.3f})"
            st.markdown(small(words))
compared = results.tables("regions_") if results is not None else {}
for score in model.scores:
    if f"regions_{score}" in compared:
        st.header(f"Regions that {plain(score)} chose from")
        grid = rounded(compared[f"regions_{score}"])
        show_grid(Grid(tuple(name.replace("_", " ") for name in grid.header), grid.rows, grid.note))
figures: list[tuple[str, Figure]] = []
if results is not None:
    horizons = [f"_{horizon:g}" for horizon in model.fitted.horizons]
    figures += [("ROC curve, held-out predictions", f) for f in results.figures("roc", model.name)]
    for figure in results.figures("calibration", model.name, ["", *horizons]):
        figures.append(("Calibration, held-out predictions", figure))
    figures += [("Decision curve, held-out predictions", f) for f in results.figures("decision", model.name)]
    figures += [("Risk groups, held-out predictions", f) for f in results.figures("risk_groups", model.name)]
    figures += [("Observed incidence in the whole cohort", f) for f in results.figures("incidence")]
for title, figure in figures:
    show_figure(figure, title)
decision = facts.get("out_of_fold", {}).get("decision")
drawn = any(figure.name.startswith("decision") for _, figure in figures)
if not drawn and isinstance(decision, dict) and decision.get("curve"):
    st.header("Decision curve")
    low, high = decision["thresholds"]
    st.markdown(small(f"Held-out predictions. Thresholds {low} to {high}: {decision['why']}."))
    charts.decision_curve(decision["curve"])
if not figures:
    st.info(
        "The figures of the report (ROC, calibration) are not here: "
        "this bundle lies outside its run, or no report was made."
    )
