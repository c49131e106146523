"""The choice among predictors and what one adds to another, as lines for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

NAMES = {"auc": "AUC", "c": "Harrell C", "macro_f1": "macro-F1", "macro_auc": "macro-AUC"}


def choice_lines(metrics: Mapping[str, Any]) -> Iterator[str]:
    """Lines of metrics["selection"] and metrics["adds"], none where there are none."""
    found = metrics.get("selection")
    if found is not None and "winner" not in found:
        yield f"chosen    {found['reason']}"
    elif found is not None:
        yield from _chosen(found)
    for entry in metrics.get("adds", ()):
        yield f"adds      {entry.get('sentence') or _not_ranked(entry)}"


def _chosen(found: Mapping[str, Any]) -> Iterator[str]:
    entry = next(one for one in found["table"] if one["predictor"] == found["winner"])
    how = "the lowest log-loss and no simpler predictor within one standard error"
    if found["best"] != found["winner"]:
        how = f"the simplest within one standard error of the best, {found['best']}"
    share = f"chosen in {100 * entry['chosen_share']:.0f} % of {found['draws']} resamples of patients"
    yield f"chosen    {found['winner']} ({entry['complexity']}): {how}; {share}"
    main = found["measures"][0]
    for key in (main, "log_loss"):
        before, after = found["uncorrected"].get(key, {}), found["corrected"][key]
        digits = 3 if key == "log_loss" else 2
        name = NAMES.get(key, "log-loss")
        yield f"          {name} {_span(before, digits)} as measured; {_span(after, digits)} corrected for the choice"


def _span(entry: Mapping[str, Any], digits: int) -> str:
    if entry.get("value") is None:
        return f"– ({entry.get('reason', 'not estimable')})"
    text = f"{entry['value']:.{digits}f}"
    if entry.get("low") is None:
        return text
    return f"{text} ({entry['low']:.{digits}f} to {entry['high']:.{digits}f})"


def _not_ranked(entry: Mapping[str, Any]) -> str:
    return f"{entry['with']} to {entry['without']}: {entry['reason']}"
