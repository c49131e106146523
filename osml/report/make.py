"""Make the report of a run from its folder alone: nothing is fitted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from osml.errors import NotEstimableError
from osml.explanation.drawing import save
from osml.explanation.figures import MOST_INPUTS, dependence_figure, summary_figure, typical_units, waterfall_figure
from osml.explanation.run import Explained, explain_run
from osml.files import atomic_write, write_csv
from osml.report.card import model_card
from osml.report.classes import write_tables
from osml.report.exhibit import Exhibit, unavailable
from osml.report.explained import explained_exhibits, explains
from osml.report.figures_calibration import calibration_exhibits
from osml.report.figures_candidates import candidates_exhibit
from osml.report.figures_classes import (
    class_calibration_exhibit,
    class_roc_exhibit,
    confusion_exhibit,
    spread_exhibit,
)
from osml.report.figures_decision import decision_exhibit
from osml.report.figures_flow import flow_exhibit
from osml.report.figures_gates import gates_exhibit
from osml.report.figures_panel import panel_exhibit
from osml.report.figures_regions import region_exhibit
from osml.report.figures_roc import roc_exhibit
from osml.report.figures_selection import selection_exhibits
from osml.report.figures_survival import incidence_exhibit, risk_group_exhibit
from osml.report.models import ModelRow, model_rows, write_models
from osml.report.networks import networks
from osml.report.page import Exhibits, page
from osml.report.radiomics import radiomics_inputs
from osml.report.radscores import radscores
from osml.report.run import Run, read_run
from osml.report.shap import one_line, readable, with_room
from osml.report.slides import make_slide_report
from osml.report.slides_words import region_study
from osml.report.wording import no_model

_CAPTION = "Final model, training patients: explanation, not performance. "


def make_report(run_dir: str | Path) -> Path:
    """Write report/report.html, report/figures/ (PDF, PNG, CSV of each), tables/models.csv and model_card.md of a run.

    Made from stored predictions, metrics and models; the same run gives the same bytes. report.html needs no network.

    Parameters
    ----------
    run_dir : folder of a run whose metrics are written

    Returns
    -------
    Path
        The HTML file.

    Raises
    ------
    RunError
        The folder holds no results, or predictions that its own splits contradict.
    """
    if region_study(Path(run_dir)):
        return make_slide_report(run_dir)
    run = read_run(Path(run_dir).resolve())
    rows = model_rows(run)
    write_models(run, rows)
    if run.classes:
        write_tables(run)
    exhibits = _exhibits(run, rows)
    folder = run.path / "report"
    for exhibit in exhibits.all():
        if exhibit.figure is not None:
            save(exhibit.figure, folder / "figures", exhibit.name)
        if exhibit.picture:
            atomic_write(folder / "figures" / f"{exhibit.name}.png", exhibit.picture)
        if exhibit.drawn:
            write_csv(folder / "figures" / f"{exhibit.name}.csv", exhibit.header, exhibit.data)
    atomic_write(folder / "report.html", page(run, exhibits, rows))
    atomic_write(run.path / "model_card.md", model_card(run))
    return folder / "report.html"


def _exhibits(run: Run, rows: Sequence[ModelRow]) -> Exhibits:
    names = list(run.held_out)
    risks = [] if run.withheld else names
    decided = [] if run.schema.decision is None else risks
    gated = [name for name in networks(run) if name in run.held_out]
    if run.classes:
        return Exhibits(
            flow=flow_exhibit(run),
            regions=[region_exhibit(run, name) for name in radiomics_inputs(run)],
            scores=[],
            panel=spread_exhibit(run),
            confusion=[confusion_exhibit(run, name) for name in names],
            discrimination=[class_roc_exhibit(run, name) for name in names],
            calibration=[class_calibration_exhibit(run, name) for name in names],
            decision=[],
            survival=[],
            gates=[gates_exhibit(run, name) for name in gated],
            candidates=candidates_exhibit(run),
            explanation=[e for name in run.metrics["predictors"] for e in _explanation(run, name)],
        )
    return Exhibits(
        flow=flow_exhibit(run),
        regions=[region_exhibit(run, name) for name in radiomics_inputs(run)],
        scores=[(score, selection_exhibits(run, score)) for score in radscores(run)],
        panel=panel_exhibit(run, rows),
        discrimination=[] if run.survival else [roc_exhibit(run, name) for name in names],
        calibration=[e for name in risks for e in calibration_exhibits(run, name)],
        decision=[decision_exhibit(run, name) for name in decided],
        survival=[incidence_exhibit(run), *(risk_group_exhibit(run, name) for name in names)] if run.survival else [],
        gates=[gates_exhibit(run, name) for name in gated],
        candidates=candidates_exhibit(run),
        explanation=[e for name in run.metrics["predictors"] for e in _explanation(run, name)],
    )


def _explanation(run: Run, predictor: str) -> list[Exhibit]:
    name, title = f"shap_{predictor}", f"Contributions of the inputs, {predictor}"
    spared = run.metrics["predictors"][predictor].get("final", {}).get("skipped")
    if spared:
        return [unavailable(name, title, f"Not explained: {spared}.")]
    if explains(run, predictor):
        return explained_exhibits(run, predictor)
    if not (run.path / "bundle" / "predictors" / predictor).is_dir():
        why = no_model(run.metrics["predictors"][predictor], "it was not fitted")
        return [unavailable(name, title, f"There is no final model: {why}.")]
    if run.network(predictor):
        return [unavailable(name, title, "A network or AutoGluon feeds it; what their inputs add stands with them.")]
    try:
        explained = readable(run, explain_run(run.path, predictor))
    except NotEstimableError as error:
        return [unavailable(name, title, error.what)]
    figure, (header, rows) = summary_figure(explained)
    figure = with_room(figure, explained, MOST_INPUTS)
    method = f"{_CAPTION}SHAP values on the {explained.scale} scale, {explained.method}. "
    if any("|" in column.name for column in explained.columns):
        method += "Features in standard deviations from the training mean; no filter named: original image. "
    caption = f"{method}One mark a {run.units.removesuffix('s')}; the input that moves predictions most is on top."
    out = [Exhibit(name, title, caption, figure, header, one_line(rows))]
    figure, (header, data) = dependence_figure(explained)
    caption = f"{_CAPTION}Each input's value against its contribution."
    shown = [row for j in explained.shap.order for row in _ends(explained, data, explained.columns[j].name)]
    out.append(
        Exhibit(f"{name}_dependence", f"Value and contribution, {predictor}", caption, figure, header, data, shown)
    )
    if run.withheld:
        return out
    median, high = typical_units(explained)
    for key, unit, words in (
        ("median", median, "median prediction"),
        ("high", high, "a high prediction (90th percentile)"),
    ):
        figure, (header, data) = waterfall_figure(explained, unit)
        figure = with_room(figure, explained, len(explained.columns), extra=1)
        caption = f"{_CAPTION}From the average to one patient with {words}; which patient is not recorded here."
        title = f"One patient with {words}, {predictor}"
        out.append(Exhibit(f"{name}_{key}", title, caption, figure, header, one_line(data)))
    return out


def _ends(explained: Explained, data: list[tuple[object, ...]], name: str) -> list[tuple[object, ...]]:
    """A few rows of one input: each level once, or the lowest and the highest value."""
    mine = [row for row in data if row[0] == name]
    column = next(c for c in explained.columns if c.name == name)
    if column.levels:
        return list({row[1]: row for row in mine}.values())
    return [mine[0], mine[-1]]
