"""What moves predictions of networks, boosted trees and stacks, out-of-fold: figures, and where the galleries lie."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from osml.errors import OsmlError
from osml.explanation.figures import MOST_INPUTS, dependence_figure, summary_figure
from osml.explanation.network_figures import contribution_figure
from osml.explanation.networks import NetworkExplanation, network_explanation, write_gallery
from osml.explanation.run import Explained
from osml.report.exhibit import Exhibit, unavailable
from osml.report.feature_words import feature_words, wrapped
from osml.report.html import Markup, tag
from osml.report.run import Run
from osml.report.shap import one_line, readable, with_room
from osml.schema.autogluon import AutogluonPredictor
from osml.schema.networks import NetworkPredictor, StackPredictor
from osml.schema.tabular import BoostingPredictor

_WIDTH = 26  # characters of a line beside an axis
_HELD = "Out-of-fold: each unit by the model that did not train on it. "


def explains(run: Run, name: str) -> bool:
    """Whether this module explains a predictor."""
    return isinstance(
        run.schema.predictors[name], (NetworkPredictor, StackPredictor, BoostingPredictor, AutogluonPredictor)
    )


def explained_exhibits(run: Run, name: str) -> list[Exhibit]:
    """Shares of gradients and SHAP values of a network or stack; why there are none where its folds failed."""
    try:
        found = network_explanation(run.path, name)
    except OsmlError as error:
        return [unavailable(f"shap_{name}", f"Contributions of the inputs, {name}", error.what)]
    out = [_contributions(found)] if found.contributions else []
    for column, explained in found.shap.items():
        out += _shap(run, name, column, explained, several=len(found.shap) > 1)
    if not out:
        why = "; ".join(dict.fromkeys(found.reasons.values()))
        return [unavailable(f"shap_{name}", f"Contributions of the inputs, {name}", f"{why}. See its gallery.")]
    failed = run.metrics["predictors"].get(name, {}).get("failed_folds", 0)
    few = f"Only units of the folds that were fitted: {failed} failed. " if failed else ""
    return [replace(e, caption=f"{few}{e.caption}") for e in out]


def gallery_notes(run: Run) -> list[Markup]:
    """Where the gallery of each network lies. It is not part of the page, which may be passed on; patients' pictures
    may not."""
    out = []
    for name, block in run.schema.predictors.items():
        if not isinstance(block, NetworkPredictor) or name not in run.held_out:
            continue
        try:
            gallery = write_gallery(run.path, name)
        except OsmlError as error:
            gallery = {"reason": error.what}
        if "file" in gallery:
            file = gallery["file"].removeprefix("report/")
            words = "right, wrong and unsure cases, each picture beside what its network looked at (Grad-CAM): "
            tail = " It holds patients' pictures, so it lies beside this page and not in it."
            out.append(tag("p", f"Gallery of {name}: {words}", tag("a", file, href=file), f".{tail}"))
        else:
            out.append(tag("p", f"No gallery of {name}: {gallery['reason']}.", class_="absent"))
    return out


def _contributions(found: NetworkExplanation) -> Exhibit:
    name, first = found.predictor, next(iter(found.facts.values()))
    labels = _labels(found)
    figure, (header, rows) = contribution_figure(found.contributions, labels)
    caption = (
        f"{_HELD}Shares of the mean absolute gradient of the score, per unit in which an input enters, and of "
        "integrated gradients from the training mean, which do not depend on that unit. Pictures are held fixed. "
    )
    caption += f"No intervals: {first['reason']}." if first["reason"] else "Lines: 95 % bootstrap over patients."
    most = max(fact["gap"] for fact in found.facts.values())
    caption += f" Integrated gradients add up to the change of the score within {most:.1g}."
    shown = [
        (row[0], " ".join(labels.get(str(row[2] or row[1]), str(row[2] or row[1])).split()), row[3], _share(row[7:10]),
         _share(row[13:16]))
        for row in rows[:40]
    ]  # fmt: skip
    return Exhibit(
        f"contributions_{name}", f"What the table adds, {name}", caption, figure, header, rows, shown,
        ("output", "input", "units", "share of the gradient", "share of integrated gradients"),
    )  # fmt: skip


def _labels(found: NetworkExplanation) -> Mapping[str, str]:
    features = {c.part.feature for several in found.contributions.values() for c in several if c.part.feature}
    return {**found.labels, **{f: wrapped(feature_words(f), _WIDTH) for f in features}}


def _share(three: tuple[float, float | None, float | None]) -> str:
    value, low, high = three
    return f"{value:.2f}" if low is None or high is None else f"{value:.2f} ({low:.2f} to {high:.2f})"


def _shap(run: Run, name: str, column: str, explained: Explained, *, several: bool) -> list[Exhibit]:
    stem = f"shap_{name}" + (f"_{re.sub(r'[^0-9A-Za-z_-]+', '-', column)}" if several else "")
    of = f"{name}, {column}" if several else name
    told = readable(run, explained)
    figure, (header, rows) = summary_figure(told)
    caption = (
        f"{_HELD}SHAP values on the {told.scale} scale: {told.method.removeprefix('out-of-fold, ')}. "
        f"One mark a {run.units.removesuffix('s')}; the input that moves predictions most is on top."
    )
    figure = with_room(figure, told, MOST_INPUTS)
    out = [Exhibit(stem, f"Contributions of the inputs, {of}", caption, figure, header, one_line(rows))]
    if all(column.many for column in told.columns):
        return out
    figure, (header, rows) = dependence_figure(told)
    title = f"Value and contribution, {of}"
    caption = f"{_HELD}Each input's value against its contribution."
    return [*out, Exhibit(f"{stem}_dependence", title, caption, figure, header, rows, rows[:12])]
