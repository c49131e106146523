"""What `osml fit` prints at the end of a region study."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from osml.report.slides_words import KINDS, performance_words, points

Say = Callable[[str], None]


def show(metrics: Mapping[str, Any], run: object, say: Say) -> None:
    """A line per map, the honest sentence, and where the files are."""
    necrosis = metrics["necrosis"]
    say("")
    for name, found in metrics["predictors"].items():
        if "maps" not in found:
            say(f"{name}: not judged: {found.get('reason', 'no fold succeeded')}")
            continue
        head = f"{name:<34}{'mIoU %':>7}  {'95 %':>13}  {'precision':>9}  {'recall':>6}"
        say(head + (f"  {'necrosis error':>14}  {'95 %':>12}" if necrosis else ""))
        for kind in found["kinds"]:
            facts = found["maps"][kind]
            overall = facts["overall"]
            words = KINDS[kind] + (" *" if kind == found["deployed"] else "")
            line = (
                f"  {words:<32}{_one(overall['miou'], 100):>7}  {_span(overall['miou'], 100):>13}  "
                f"{_one(overall['precision'], 100):>9}  {_one(overall['recall'], 100):>6}"
            )
            if necrosis:
                error = facts["necrosis"]["mean_absolute"]
                line += f"  {_one(error, 1):>14}  {_span(error, 1):>12}"
            say(line)
        say("  * deployed; intervals by drawing patients, conditional on the fitted models, too narrow")
        say(f"  {performance_words(found)}")
        for kind, gain in found["gain"].items():
            fall = f", necrosis error falls by {_change(gain['necrosis'], 1)} points" if "necrosis" in gain else ""
            say(f"gain      {name}, {kind}: mIoU {_change(gain['miou'], 100)} points{fall}")
        chosen = ", ".join(f"{kind} in {n}" for kind, n in found["chosen"].items())
        say(f"chosen    {name}: {chosen}; {found['folds']}/{found['folds'] + found['failed_folds']} folds")
        if "huvos" in found and found["huvos"]["reason"]:
            say(f"huvos     {name}: no grades: {found['huvos']['reason']}")
        if "final" in found:
            say(f"  no final model: {found['final']['failed']}")
    for code, reason in metrics["accepted"].items():
        say(f"accepted  {code}: {reason}")
    if metrics["synthetic"]:
        say(f"SYNTHETIC {metrics['synthetic']}")
    say("notice    research use only; not a pathology report")
    say(f"run       {run}")


def _one(entry: Mapping[str, Any], scale: float) -> str:
    return "–" if entry.get("value") is None else f"{scale * entry['value']:.1f}"


def _span(entry: Mapping[str, Any], scale: float) -> str:
    if entry.get("low") is None:
        return "–"
    return f"{scale * entry['low']:.1f}–{scale * entry['high']:.1f}"


def _change(entry: Mapping[str, Any], scale: float) -> str:
    if entry.get("value") is None:
        return "–"
    out = points(scale * entry["value"], 1, sign=True)
    if entry.get("low") is None:
        return out
    ends = " to ".join(points(scale * entry[end], 1, sign=True) for end in ("low", "high"))
    return f"{out} ({ends})"
