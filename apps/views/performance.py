"""How good the model is on patients it was not fitted to."""

from __future__ import annotations

from typing import Any

import candidates
import charts
import streamlit as st
from frame import (
    current_model,
    current_region,
    current_results,
    heading,
    plain,
    refusals,
    rounded,
    show_facts,
    show_figure,
    show_grid,
    small,
)
from region_pages import show_performance

from osml.runs.results import Figure, Grid

CLASSES = {
    "macro_f1": "Macro-F1",
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_auc": "Macro AUC (one against the rest)",
    "log_loss": "Log loss",
    "brier": "Brier score",
}
EACH_CLASS = {"auc": "AUC against the rest", "f1": "F1", "precision": "Precision", "recall": "Recall"}
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


def class_measures(honest: dict[str, Any], apparent: dict[str, Any]) -> Grid:
    """Held-out measures of classes, per row and per patient, and apparent ones."""
    patients = honest.get("per_patient", {})
    rows = []
    for key, name in CLASSES.items():
        blocks = [block.get(key) or {} for block in (honest, patients, apparent)]
        if not any(blocks):
            continue
        low, high = blocks[0].get("low"), blocks[0].get("high")
        span = "" if low is None else f"{low:.3f} to {high:.3f}"
        value = number(blocks[0].get("value")) or str(blocks[0].get("reason", ""))
        rows.append((name, value, span, number(blocks[1].get("value")), number(blocks[2].get("value"))))
    header = ("Measure", "Held out", "Interval", "Held out, mean per patient", "Apparent")
    return Grid(header, tuple(rows), str(honest.get("basis", "")))


def each_class(honest: dict[str, Any]) -> Grid:
    """Held-out measures of each class against the others."""
    counts = honest.get("per_class_n", {})
    rows = tuple(
        (name, str(counts.get(name, "")), *(number((block.get(key) or {}).get("value")) for key in EACH_CLASS))
        for name, block in honest.get("per_class", {}).items()
    )
    return Grid(("Class", "Units", *EACH_CLASS.values()), rows)


def confusion(block: dict[str, Any]) -> Grid:
    """True classes in rows, predicted ones in columns."""
    names = block["classes"]
    lines = [*zip(names, block["counts"], strict=True), *block.get("partial", {}).items()]
    rows = tuple((str(name), *(f"{value:g}" for value in values)) for name, values in lines)
    return Grid(("True class", *(f"predicted {name}" for name in names)), rows, "Held-out predictions.")


def show_choice(found: dict[str, Any], figures: list[Figure], shown: str) -> None:
    """Who was chosen, every candidate as measured, and the chosen one corrected unless it is the model `shown`."""
    st.markdown(f"**{plain(candidates.choice_words(found))}**")
    show_grid(candidates.leaderboard(found))
    if found.get("winner", shown) != shown:
        show_grid(candidates.before_and_after(found), f"{found['winner']} before and after the correction")
    for figure in figures:
        show_figure(figure, "Candidates as measured, and the chosen one corrected")
    if found.get("comparisons"):
        with st.expander(f"Every other predictor against {plain(found['winner'])}"):
            show_grid(candidates.against_the_winner(found))
    st.markdown(small(found["rule"]))


def show_added(entries: list[dict[str, Any]]) -> None:
    """What one predictor adds to another, a sentence and a table each."""
    if entries:
        st.header("What one predictor adds to another")
    for one in entries:
        if "sentence" not in one:
            st.markdown(plain(f"{one['with']} and {one['without']}: {one['reason']}."))
            continue
        st.markdown(plain(one["sentence"]))
        with st.expander(f"Numbers of {plain(one['with'])} against {plain(one['without'])}"):
            show_grid(candidates.added(one))


def show_plan(plan: dict[str, Any] | None, failed: list[dict[str, Any]] | None) -> None:
    """The plan that the run followed, and what failed in it."""
    if plan:
        st.header("Plan")
        show_facts(candidates.plan_facts(plan))
        for grid in (candidates.planned(plan), candidates.left_out(plan), candidates.governor(plan)):
            if grid.rows:
                show_grid(grid)
    if failed is not None:
        st.header("Failures")
        if failed:
            show_grid(candidates.failures(failed))
        else:
            st.markdown("Nothing failed.")


region = current_region()
if region is not None:
    heading("Performance", region)
    show_performance(region, current_results())
    st.stop()
model = current_model()
heading("Performance", model)
st.markdown(
    f"**{plain(str(model.facts['validation']).capitalize())}.** Every number here is of patients of this study."
)
facts = model.facts["predictors"].get(model.name, {})
st.header("This model")
honest = facts.get("out_of_fold", {})
show_grid(class_measures(honest, facts.get("apparent", {})) if model.classes else measures(facts))
if "reason" in honest:
    st.warning(plain(honest["reason"]))
choice = model.facts.get("choice")
if choice and model.facts.get("chosen") == model.name:
    show_grid(candidates.before_and_after(choice), f"Chosen among {choice['candidates']} predictors")
if model.classes and "per_class" in honest:
    st.header("Each class")
    show_grid(each_class(honest))
    st.header("Confusion")
    show_grid(confusion(honest["confusion"]))
results = current_results()
if results is not None:
    with refusals():
        leaderboard, metrics = results.leaderboard(), results.metrics()
    chosen = metrics.get("selection")
    if chosen is not None or leaderboard is not None:
        st.header("All models of this study")
    if chosen is not None:
        show_choice(chosen, results.figures("candidates"), model.name)
    elif leaderboard is not None:
        show_grid(leaderboard)
    for one in metrics.get("comparisons") or []:
        if "difference" in one:
            words = f"{one['first']} - {one['second']}: {one['measure']} {one['difference']:+.3f}"
            if one.get("low") is not None:
                words += f" ({one['low']:+.3f} to {one['high']:+.3f})"
            st.markdown(small(words))
    show_added(metrics.get("adds") or [])
compared = results.tables("regions_") if results is not None else {}
for score in model.scores:
    if f"regions_{score}" in compared:
        st.header(f"Regions that {plain(score)} chose from")
        grid = rounded(compared[f"regions_{score}"])
        show_grid(Grid(tuple(name.replace("_", " ") for name in grid.header), grid.rows, grid.note))
figures: list[tuple[str, Figure]] = []
if results is not None:
    horizons = [f"_{horizon:g}" for horizon in model.horizons]
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
if results is not None:
    show_plan(metrics.get("plan"), metrics.get("failures"))
