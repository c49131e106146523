"""What searches of settings did in a run: trials counted over the folds, and what was chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from osml.files import read_json


def search_facts(run: Path, name: str) -> dict[str, Any] | None:
    """Of one predictor; None where nothing was searched for.

    Returns
    -------
    JSON-able: `trials` (in each training set), `folds` (searches that are counted), over them `finished`, `pruned` and
    `failed` trials, `kept` (searches that stayed with the schema's own setting), `chosen` (setting → smallest and
    largest value), `gain` (mean fall of the inner loss from the schema's setting; None where it failed in some fold),
    and `final`, the values of the deployed model
    """
    searches = [read_json(file) for file in sorted((run / "folds").glob(f"*/{name}/search.json"))]
    deployed = run / "training" / f"{name}_search.json"
    if not searches and not deployed.is_file():
        return None
    final = read_json(deployed) if deployed.is_file() else None
    counted = searches or [final]
    gains = [
        one["default_loss"] - one["loss"]
        for one in counted
        if one["default_loss"] is not None and one["loss"] is not None
    ]
    return {
        "trials": max(one["trials"] for one in counted),
        "folds": len(searches),
        **{state: sum(one[state] for one in counted) for state in ("finished", "pruned", "failed")},
        "kept": sum(one["best"] in (None, 0) for one in counted),
        "chosen": {
            key: [min(one["values"][key] for one in counted), max(one["values"][key] for one in counted)]
            for key in counted[0]["values"]
        },
        "gain": sum(gains) / len(gains) if len(gains) == len(counted) else None,
        "final": None if final is None else final["values"],
    }
