"""The leaderboard after a choice: columns beside those that every study has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Row = tuple[Any, ...]


def with_choice(
    header: Sequence[str], rows: Sequence[Row], selection: Mapping[str, Any] | None
) -> tuple[tuple[str, ...], list[Row]]:
    """Header and rows of leaderboard.csv with what the choice says of each predictor; unchanged without one.

    Everything but `corrected_…`, which only the chosen predictor has, is as measured, too good for the best of many.
    """
    if selection is None or "winner" not in selection:
        return tuple(header), list(rows)
    main = selection["measures"][0]
    limits = () if f"{main}_low" in header else (f"{main}_low", f"{main}_high")
    added = (
        *limits, "chosen", "complexity", "log_loss", "log_loss_low", "log_loss_high", "difference_to_best", "se",
        "within_one_se", "chosen_share", f"corrected_{main}", f"corrected_{main}_low", f"corrected_{main}_high",
        "corrected_log_loss",
    )  # fmt: skip
    entries = {entry["predictor"]: entry for entry in selection["table"]}
    out = []
    for row in rows:
        entry = entries[row[0]]
        area, loss = entry.get(main, {}), entry.get("log_loss", {})
        won = row[0] == selection["winner"]
        after = selection["corrected"] if won else {}
        honest, honest_loss = after.get(main, {}), after.get("log_loss", {})
        cells = (
            *((area.get("low"), area.get("high")) if limits else ()),
            "yes" if won else "no", entry["complexity"], loss.get("value"), loss.get("low"), loss.get("high"),
            entry.get("difference"), entry.get("se"), _yes(entry.get("within")), entry.get("chosen_share"),
            honest.get("value"), honest.get("low"), honest.get("high"), honest_loss.get("value"),
        )  # fmt: skip
        out.append((*row, *cells))
    return (*header, *added), out


def _yes(value: bool | None) -> str | None:
    return None if value is None else "yes" if value else "no"
