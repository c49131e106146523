"""Everything that explains a network, boosted trees or a stack of a run, computed and written.

All of it is out-of-fold: each unit by the model of the fold that did not train on it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from osml import __version__
from osml.cohort.cohort import ClassOutcome
from osml.errors import NotEstimableError, OsmlError
from osml.explanation.autogluon import autogluon_shap
from osml.explanation.boosted import boosted_shap
from osml.explanation.contributions import Contribution, contributions, scale_words
from osml.explanation.drawing import save
from osml.explanation.figures import dependence_figure, summary_figure
from osml.explanation.galleries import HEADER, draw_gallery, gallery_rows, gallery_tiles
from osml.explanation.held_out import HeldOut, explained_columns, held_out_networks, run_cohort, run_schema
from osml.explanation.network_figures import HEADER as CONTRIBUTION_HEADER
from osml.explanation.network_figures import contribution_figure, contribution_rows
from osml.explanation.network_shap import network_shap, stack_shap
from osml.explanation.run import Explained
from osml.files import atomic_write, read_json, write_csv, write_json
from osml.schema.autogluon import AutogluonPredictor
from osml.schema.model import Schema
from osml.schema.networks import StackPredictor
from osml.schema.tabular import BoostingPredictor
from osml.schema.targets import HierarchyTarget, MulticlassTarget

GALLERY_VERSION = "gallery-2"


@dataclass(frozen=True)
class NetworkExplanation:
    """What is known of one network or stack; each part, or in `reasons` why it does not exist.

    contributions, facts : output → numbers of the table, and how they were computed
    shap : output → contributions of inputs, or of the predictors of a stack
    reasons : contributions | shap → why it is empty
    labels : input → its name, and per what its gradient is
    """

    predictor: str
    contributions: Mapping[str, tuple[Contribution, ...]]
    facts: Mapping[str, Mapping[str, Any]]
    shap: Mapping[str, Explained]
    reasons: Mapping[str, str]
    labels: Mapping[str, str]


def network_explanation(
    run: Path, name: str, held: list[HeldOut] | None = None, *, trust: bool = False
) -> NetworkExplanation:
    """Gradient contributions, integrated gradients and SHAP values of a network; SHAP values of trees and stacks.

    held : of `held_out_networks`, where they are at hand
    trust : whether files that run code may be read, which a stack of AutoGluon's needs
    """
    schema = run_schema(run)
    reasons: dict[str, str] = {}
    shap: dict[str, Explained] = {}
    if isinstance(schema.predictors[name], StackPredictor):
        reasons["contributions"] = "a stack reads scores of predictors; the numbers behind them are explained there"
        for column in _stack_columns(run, schema, name):
            shap[column or "score"] = stack_shap(run, schema, name, column, trust=trust)
        return NetworkExplanation(name, {}, {}, shap, reasons, {})
    if isinstance(schema.predictors[name], BoostingPredictor):
        reasons["contributions"] = "trees have no gradient"
        return NetworkExplanation(name, {}, {}, boosted_shap(run, schema, name, trust=trust), reasons, {})
    if isinstance(schema.predictors[name], AutogluonPredictor):
        reasons["contributions"] = "AutoGluon's models have no gradient"
        return NetworkExplanation(name, {}, {}, autogluon_shap(run, schema, name), reasons, {})
    networks = held_out_networks(run, name) if held is None else held
    first = [one for one in networks if one.fold.repeat == 0]
    found: dict[str, tuple[Contribution, ...]] = {}
    facts: dict[str, Mapping[str, Any]] = {}
    for column in explained_columns(networks[0].fitted):
        try:
            found[column], facts[column] = contributions(networks, column, schema.validation.seed)
        except NotEstimableError as error:
            reasons["contributions"] = error.what
        try:
            shap[column] = network_shap(first, schema, name, column)
        except NotEstimableError as error:
            reasons["shap"] = error.what
    names = input_labels(schema)
    labels = {item: f"{names[item]}\n(per {words})" for item, words in scale_words(networks[0].fitted).items()}
    return NetworkExplanation(name, found, facts, shap, reasons, labels)


def write_gallery(run: Path, name: str, held: list[HeldOut] | None = None) -> dict[str, Any]:
    """report/figures/gallery_<name>.png and .csv, or why there is none; not drawn again for the same predictions.

    Returns
    -------
    `file`, `header`, `rows`, or `reason`
    """
    schema = run_schema(run)
    if isinstance(schema.predictors[name], StackPredictor):
        return {"reason": "a stack reads scores; pictures are explained by the networks that it combines"}
    if isinstance(schema.predictors[name], BoostingPredictor):
        return {"reason": "trees read vectors of pictures: no place in a picture can be shown for them"}
    if isinstance(schema.predictors[name], AutogluonPredictor):
        return {"reason": "AutoGluon reads vectors of pictures: no place in a picture can be shown for it"}
    folder = run / "report" / "figures"
    picture, record = folder / f"gallery_{name}.png", run / "explanation" / name / "gallery.json"
    facts = [GALLERY_VERSION, __version__, name]
    key = hashlib.sha256("\n".join(facts).encode() + (run / "predictions.parquet").read_bytes()).hexdigest()
    if record.is_file() and picture.is_file():
        kept: dict[str, Any] = read_json(record)
        if kept.pop("key") == key:
            return kept
    networks = held_out_networks(run, name, repeats=1) if held is None else [h for h in held if h.fold.repeat == 0]
    try:
        tiles, calls = gallery_tiles(run, schema, name, networks, run_cohort(run, schema, name))
    except OsmlError as error:
        # The files or the weights may have gone since the fit; the tables stand without them.
        return {"reason": error.what}
    label = getattr(schema.predictors[name], "label", None) or name
    atomic_write(picture, draw_gallery(tiles, calls, f"{schema.name}, {label}: chosen cases"))
    rows = gallery_rows(tiles)
    write_csv(picture.with_suffix(".csv"), HEADER, rows)
    out = {"file": picture.relative_to(run).as_posix(), "header": list(HEADER), "rows": [list(row) for row in rows]}
    write_json(record, {"key": key, **out})
    return out


def explain_network_run(
    run: Path,
    name: str,
    *,
    out: Path | None = None,
    say: Callable[[str], None] | None = None,
    trust: bool = False,
) -> dict[str, Any]:
    """Explain a network, boosted trees or a stack of a run and write figures and tables.

    Parameters
    ----------
    run : folder of a run whose folds are fitted
    out : of all but the gallery; default `explanation/<name>` in the run. It holds patients' ids, as the run does
    say : receives a line per result
    trust : see `network_explanation`

    Returns
    -------
    JSON-able: `predictor`, `folder`, `files` (written), `contributions` (output → rows, facts), `shap` (output → mean
    absolute contribution by input, method), `gallery` (file, header, rows, or reason), `reasons`
    """
    tell = say or (lambda _: None)
    schema = run_schema(run)
    other = isinstance(schema.predictors[name], StackPredictor | BoostingPredictor | AutogluonPredictor)
    held = None if other else held_out_networks(run, name)
    found = network_explanation(run, name, held, trust=trust)
    folder = out or run / "explanation" / name
    files: list[str] = []
    if found.contributions:
        figure, (header, rows) = contribution_figure(found.contributions, found.labels)
        save(figure, folder, "contributions")
        write_csv(folder / "contributions.csv", header, rows)
        files += ["contributions.pdf", "contributions.png", "contributions.csv"]
        for column, several in found.contributions.items():
            tell(
                f"gradient  {column}: " + ", ".join(f"{c.part.name} {c.gradient_share.value:.0%}" for c in several[:5])
            )
    for column, explained in found.shap.items():
        files += _write_shap(folder, column, explained)
        order = explained.shap.order[:5]
        words = (f"{explained.columns[j].name} {explained.shap.importance[j]:.2f}" for j in order)
        tell(f"SHAP      {explained.scale}: " + ", ".join(words))
    gallery = write_gallery(run, name, held)
    tell(f"gallery   {gallery.get('file') or 'none: ' + gallery['reason']}")
    for part, reason in found.reasons.items():
        tell(f"{part:<9} none: {reason}")
    return {
        "predictor": name,
        "folder": str(folder),
        "files": files,
        "contributions": {
            column: {
                "header": list(CONTRIBUTION_HEADER),
                "rows": [list(row) for row in contribution_rows({column: several})],
                **found.facts[column],
            }
            for column, several in found.contributions.items()
        },
        "shap": {
            column: {
                "method": e.method,
                "scale": e.scale,
                "rows": [[e.columns[j].name, float(e.shap.importance[j])] for j in e.shap.order],
            }
            for column, e in found.shap.items()
        },
        "gallery": gallery,
        "reasons": dict(found.reasons),
    }


def input_labels(schema: Schema) -> dict[str, str]:
    """Names of inputs as they are read."""
    return {name: getattr(block, "label", None) or name for name, block in schema.inputs.items()}


def _write_shap(folder: Path, column: str, explained: Explained) -> list[str]:
    stem = "shap" if column in ("score", "hazard") else f"shap_{re.sub(r'[^0-9A-Za-z_-]+', '-', column)}"
    figures = {f"{stem}_summary": summary_figure(explained)}
    with suppress(NotEstimableError):  # radiomics alone: no value to draw against
        figures[f"{stem}_dependence"] = dependence_figure(explained)
    for name, (figure, (header, rows)) in figures.items():
        save(figure, folder, name)
        write_csv(folder / f"{name}.csv", header, rows)
    shap = explained.shap
    table = [(u, *v.tolist(), lp) for u, v, lp in zip(explained.units, shap.values, shap.lp, strict=True)]
    write_csv(folder / f"{stem}.csv", ("unit", *shap.inputs, "sum"), table)
    return [f"{stem}.csv", *(f"{name}{end}" for name in figures for end in (".pdf", ".png", ".csv"))]


def _stack_columns(run: Path, schema: Schema, name: str) -> list[str | None]:
    if isinstance(schema.target, (HierarchyTarget, MulticlassTarget)):
        outcome = run_cohort(run, schema, name).outcome
        assert isinstance(outcome, ClassOutcome)
        return list(outcome.tree.leaves)
    return [None]
