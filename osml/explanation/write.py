"""Write the explanation of a run: figures as PDF and PNG, each with the table it draws."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from osml.explanation.drawing import save
from osml.explanation.figures import dependence_figure, summary_figure, typical_units, waterfall_figure
from osml.explanation.held_out import run_schema
from osml.explanation.networks import explain_network_run
from osml.explanation.run import explain_run
from osml.files import write_csv
from osml.schema.autogluon import AutogluonPredictor
from osml.schema.networks import NetworkPredictor, StackPredictor
from osml.schema.tabular import BoostingPredictor


def write_explanation(
    run: Path, predictor: str | None, out: Path | None, say: Callable[[str], None], *, trust: bool = False
) -> Path:
    """Figures and CSV of a run's final model; the contributions of every training unit stand in contributions.csv.

    Networks, tabular learners and stacks are explained out-of-fold, see `explain_network_run`.

    Parameters
    ----------
    run : folder of a finished run
    predictor : default: the one that the study chose, else the first of the schema that was fitted
    out : default `explanation/<predictor>` in the run; it holds patients' ids, as the run does
    trust : whether files that run code may be read, see `osml.predictors.registry.load_predictor`; AutoGluon's own
        contributions were stored when it was fitted and need none, what it feeds does

    Returns
    -------
    Path
        The folder written.
    """
    schema = run_schema(run)
    if predictor is None:
        predictor = next((n for n in schema.predictors if (run / "bundle" / "predictors" / n).is_dir()), None)
    held_out = NetworkPredictor | StackPredictor | BoostingPredictor | AutogluonPredictor
    if predictor in schema.predictors and isinstance(schema.predictors[predictor], held_out):
        found = explain_network_run(run, predictor, out=out, say=say, trust=trust)
        say("          out-of-fold: each unit by the model of the fold that did not train on it")
        say(f"written   {found['folder']}")
        return Path(found["folder"])
    explained = explain_run(run, predictor, trust=trust)
    folder = out or run / "explanation" / explained.predictor
    median, high = typical_units(explained)
    figures = {
        "shap_summary": summary_figure(explained),
        "shap_dependence": dependence_figure(explained),
        "shap_waterfall_median": waterfall_figure(explained, median),
        "shap_waterfall_high": waterfall_figure(explained, high),
    }
    for name, (figure, (header, rows)) in figures.items():
        save(figure, folder, name)
        write_csv(folder / f"{name}.csv", header, rows)
    shap = explained.shap
    header = ("unit", "base", *shap.inputs, "linear_predictor")
    table = [(u, shap.base, *v.tolist(), lp) for u, v, lp in zip(explained.units, shap.values, shap.lp, strict=True)]
    write_csv(folder / "contributions.csv", header, table)
    say(f"explained {explained.predictor} on the {explained.scale} scale: {explained.method}")
    say("          of the final model on the patients it was fitted to: what the model does, not how good it is")
    for column, mean in ((explained.columns[j], shap.importance[j]) for j in shap.order):
        say(f"          {mean:8.3f}  {column.title}")
    say(f"written   {folder}")
    return folder
