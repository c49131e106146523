"""What metrics.json says of the choice among predictors, of the plan and of failures, as tables for the app."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from osml.runs.results import Grid

NAMES = {
    "auc": "AUC", "c": "Harrell's C", "macro_f1": "Macro-F1", "macro_auc": "Macro AUC", "brier": "Brier score",
    "log_loss": "Log-loss",
}  # fmt: skip
LOWER = " (lower is better)"


def leaderboard(found: Mapping[str, Any]) -> Grid:
    """Every predictor as measured, not corrected for the choice."""
    main = found["measures"][0]
    rows = []
    for entry in found["table"]:
        won = entry["predictor"] == found.get("winner")
        name = f"{entry['predictor']} (chosen)" if won else entry["predictor"]
        if "reason" in entry and main not in entry:
            rows.append((name, entry["complexity"], str(entry["reason"]), "", "", ""))
            continue
        share = entry.get("chosen_share")
        rows.append(
            (
                name, entry["complexity"], span(entry.get(main, {})), span(entry.get("log_loss", {})),
                _behind(entry, found), "" if share is None else f"{100 * share:.0f} %",
            )
        )  # fmt: skip
    header = ("Predictor", "Complexity", f"{NAMES[main]} (95 % interval)", "Log-loss (95 % interval)",
              "Log-loss above the best ± SE", "Chosen in resamples")  # fmt: skip
    return Grid(header, tuple(rows), str(found["note"]))


def _behind(entry: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    if entry.get("difference") is None:
        return ""
    if entry["predictor"] == found["best"]:
        return "the best"
    within = ", within one SE" if entry["within"] else ""
    return f"{entry['difference']:.3f} ± {entry['se']:.3f}{within}"


def before_and_after(found: Mapping[str, Any]) -> Grid:
    """The chosen predictor as measured and corrected for the choice."""
    rows = tuple(
        (
            NAMES[key] + (LOWER if key in ("brier", "log_loss") else ""),
            span(found["uncorrected"].get(key, {})),
            span(found["corrected"][key]),
        )
        for key in found["corrected"]
    )
    kinds = sorted({one["interval"] for one in found["corrected"].values() if one.get("interval")})
    note = f"Interval of the corrected values: {'; '.join(kinds)}." if kinds else ""
    return Grid(("Measure", "As measured", "Corrected for the choice"), rows, note)


def choice_words(found: Mapping[str, Any]) -> str:
    """Who was chosen and why, or why nobody."""
    if "winner" not in found:
        return f"{found['reason'][0].upper()}{found['reason'][1:]}."
    entry = next(one for one in found["table"] if one["predictor"] == found["winner"])
    if found["best"] == found["winner"]:
        why = "the lowest log-loss, and no simpler one is within one standard error"
    else:
        why = f"the simplest within one standard error of {found['best']}, which has the lowest log-loss"
    return f"Chosen: {found['winner']} ({entry['complexity']}), {why}."


def against_the_winner(found: Mapping[str, Any]) -> Grid:
    """Every other predictor minus the chosen one."""
    rows = []
    for one in found["comparisons"]:
        name = NAMES[one["measure"]] + (LOWER if one["better"] == "lower" else "")
        value = span(one, signed=True, key="difference")
        p = f"{one['p_holm']:.3f}" if "p_holm" in one else one.get("reason", "")
        rows.append((f"{one['first']} − {one['second']}", name, value, p))
    header = ("Pair", "Measure", "Difference (95 % interval)", "p (Holm)")
    return Grid(header, tuple(rows), str(found["comparisons_note"]))


def added(entry: Mapping[str, Any]) -> Grid:
    """Values of both predictors of a pair and their difference."""
    rows = []
    benefit = entry["net_benefit"]
    points = [(f"Net benefit at a risk of {100 * one['threshold']:g} %", one) for one in benefit] if isinstance(
        benefit, list
    ) else []  # fmt: skip
    measures = [(NAMES[k] + (LOWER if k in ("brier", "log_loss") else ""), v) for k, v in entry["measures"].items()]
    for name, one in (*measures, *points):
        values = ["" if one[key] is None else f"{one[key]:.3f}" for key in ("without", "with")]
        rows.append((name, *values, span(one["difference"], signed=True)))
    header = ("Measure", str(entry["without"]), str(entry["with"]), "Difference (95 % interval)")
    return Grid(header, tuple(rows), str(entry["note"]))


def planned(plan: Mapping[str, Any]) -> Grid:
    """Candidates of the plan and why each is in it."""
    rows = tuple((one["name"], one["kind"], one["reason"]) for one in plan.get("candidates", ()))
    return Grid(("Candidate", "Kind", "Reason"), rows)


def left_out(plan: Mapping[str, Any]) -> Grid:
    """What was considered and is not in the plan."""
    rows = tuple((one["name"], one["reason"]) for one in plan.get("left_out", ()))
    return Grid(("Not tried", "Reason"), rows)


def governor(plan: Mapping[str, Any]) -> Grid:
    """Riley's criteria for the regressions of the plan."""
    rows = tuple(
        (
            str(one.get("predictor", one.get("name", ""))), _whole(one.get("parameters")), _whole(one.get("patients")),
            _whole(one.get("needed")), str(one.get("verdict", "")),
        )
        for one in plan.get("governor", ())
    )  # fmt: skip
    return Grid(("Regression", "Parameters", "Patients", "Patients asked for", "What follows"), rows)


def plan_facts(plan: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Whether the run followed its plan, and what the plan is."""
    followed = "yes" if plan.get("followed") else "no"
    changes = plan.get("changes") or ()
    facts = [("Followed as osml proposed it", followed)]
    facts += [("Changed", "; ".join(map(str, changes)))] if changes else []
    for key, name in (("preset", "Preset"), ("tier", "Sample size"), ("hash", "SHA-256")):
        if plan.get(key) is not None:
            facts.append((name, str(plan[key])))
    return facts


def failures(found: Sequence[Mapping[str, Any]]) -> Grid:
    """What failed, one row per predictor, stage and kind; tracebacks stand in failures.csv."""
    rows = tuple(tuple(str(one.get(key, "")) for key in ("predictor", "stage", "kind", "message")) for one in found)
    return Grid(("Predictor", "Stage", "Kind", "Message"), rows, "Tracebacks: failures.csv of the run.")


def span(entry: Mapping[str, Any], *, signed: bool = False, key: str = "value") -> str:
    """A value with its interval, or why there is none."""
    if entry.get(key) is None:
        return str(entry.get("reason", ""))
    sign = "+" if signed else ""
    text = f"{entry[key]:{sign}.3f}"
    if entry.get("low") is not None:
        text += f" ({entry['low']:{sign}.3f} to {entry['high']:{sign}.3f})"
    return text


def _whole(value: Any) -> str:
    return "" if value is None else f"{value:,.0f}"
