"""The model card of a region study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from osml.report.card import plain
from osml.report.slides_words import KINDS, RESEARCH, Slides, limits, performance_words


def slide_card(run: Slides) -> str:
    """Markdown text; the same run gives the same bytes."""
    study = run.schema.study
    lines = [f"# Model card: {plain(study.title or run.schema.name)}", ""]
    lines += [f"> {plain(text)}\n>" for text in run.notices()] + [f"> {RESEARCH}", ""]
    classes = ", ".join(f"{code} {facts['name']}" for code, facts in run.metrics["classes"].items())
    place = ", ".join(filter(None, (study.centre, study.period))) or "not stated"
    lines += [
        "## Intended use", "",
        f"- Maps tissue on whole slides: {plain(classes)}",
        f"- Necrosis rate: {plain(run.rate_words())}",
        f"- When: {plain(run.schema.time_of_prediction.replace('_', ' '))}",
        f"- For whom: {plain(study.population or 'not stated')}",
        f"- Where and when they were treated: {plain(place)}",
        "- Not for: reports on patients; slides of other stains, scanners or diseases than these.", "",
        "## Training data", "",
        f"- {run.summary['outcomes']['annotated']} annotated slides of {run.summary['annotated_patients']} patients; "
        f"sampling: {study.sampling}",
        f"- Not used: {plain(', '.join(f'{n} {why}' for why, n in run.summary['excluded'].items()) or 'nothing')}", "",
        "## Performance", "",
        f"Judged by {plain(run.split_words())}.", "",
    ]  # fmt: skip
    for name in run.judged:
        found = run.metrics["predictors"][name]
        lines += [f"- {plain(run.label(name))}: {plain(performance_words(found))}", "", *_table(found), ""]
    lines += ["## Models", ""]
    lines += [f"- {plain(run.label(name))}: {_model(found)}" for name, found in run.metrics["predictors"].items()]
    lines += ["", "## Limitations", "", *(f"- {plain(text)}" for text in limits(run))]
    lines += [
        "", "## Provenance", "",
        f"- osml {run.environment['osml']}, Python {run.environment['python']}, seed {run.schema.validation.seed}",
        f"- Table SHA-256 {run.summary['sha256']}",
        "- Full report: report/report.html", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _table(found: Mapping[str, Any]) -> list[str]:
    lines = ["| Map | mIoU, % (95 %) | necrosis error, points (95 %) |", "|---|---|---|"]
    for kind in found["kinds"]:
        facts = found["maps"][kind]
        cells = [_cell(facts["overall"]["miou"], 100), _cell(facts.get("necrosis", {}).get("mean_absolute", {}), 1)]
        lines.append(f"| {plain(KINDS[kind])} | {' | '.join(cells)} |")
    return lines


def _cell(entry: Mapping[str, Any], scale: float) -> str:
    if entry.get("value") is None:
        return "–"
    span = f" ({scale * entry['low']:.1f} to {scale * entry['high']:.1f})" if "low" in entry else ""
    return f"{scale * entry['value']:.1f}{span}"


def _model(found: Mapping[str, Any]) -> str:
    model = found.get("model")
    if model is None:
        return f"not fitted to all patients ({plain(found.get('final', {}).get('failed', 'not made'))})"
    encoder = model["encoder"]
    return plain(
        f"tiles of {model['size_um']:g} µm every {model['stride_um']:g} µm by {encoder['model']} "
        f"({model['tune']}), refiner {KINDS[model['refiner']].split(':')[0]}, map cells of {model['cell_um']:g} µm; "
        f"{model['patients']} patients, {model['slides']} slides, {model['tiles']} tiles"
    )
