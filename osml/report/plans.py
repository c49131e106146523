"""The plan of a study with `predictors: auto`: whether it was followed, what became of each candidate, what failed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from osml.report.html import Markup, details, table, tag
from osml.report.run import Run
from osml.report.wording import no_model


def planned(run: Run) -> bool:
    """Whether the predictors were those of a plan, or something failed."""
    return "plan" in run.metrics or bool(run.metrics.get("failures"))


def plan_words(plan: Mapping[str, Any]) -> str:
    """One sentence on whether the analysis followed what osml proposed before anything was fitted."""
    limit = "no time limit" if plan["time_limit"] is None else f"a time limit of {_minutes(plan['time_limit'])}"
    told = f"preset {plan['preset']}, {limit}, SHA-256 {plan['hash'][:12]}…"
    if plan["followed"]:
        return f"The analysis followed the plan that osml proposed before anything was fitted ({told})."
    changes = "; ".join(plan["changes"]) or "its preset, limit or comparison was changed"
    return f"The analysis departs from the plan that osml proposed ({told}): {changes}."


def section(run: Run) -> list[object]:
    """The plan with what became of each candidate, what was left out, Riley's criteria, failures."""
    plan = run.metrics.get("plan")
    out: list[object] = []
    if plan is not None:
        out += [tag("p", plan_words(plan)), _candidates(run, plan)]
        if plan["left_out"]:
            rows = [[row["name"], row["reason"]] for row in plan["left_out"]]
            shown = table(("Left out", "Reason"), rows, "Left out of the plan", text_columns=2)
            out.append(details("What was not tried, and why", shown))
        if plan["governor"]:
            out.append(details("Sample size of each regression", _governor(plan)))
    failures = run.metrics.get("failures", ())
    if failures:
        rows = [[f["predictor"], f["stage"], f["kind"], f["message"]] for f in failures]
        out.append(table(("Predictor", "Stage", "Error", "Message"), rows, "What failed", text_columns=4))
        out.append(tag("p", "Tracebacks stand in ", tag("code", "failures.csv"), " of the run.", class_="note"))
    return out


def _candidates(run: Run, plan: Mapping[str, Any]) -> Markup:
    winner = run.metrics.get("selection", {}).get("winner")
    rows = []
    for candidate in plan["candidates"]:
        name = candidate["name"]
        facts = run.metrics["predictors"][name]
        if facts["failed_folds"]:
            fate = str(facts["out_of_fold"]["reason"])
        else:
            fate = "chosen" if name == winner else "validated"
            fate += "" if "final" not in facts else f"; no model: {no_model(facts)}"
            fate += "" if "final" in facts or name == winner else " and fitted"
        rows.append([name, candidate["kind"], candidate["reason"], fate])
    return table(("Candidate", "Kind", "Why it was tried", "What became of it"), rows, "Candidates, simplest first",
                 text_columns=4)  # fmt: skip


def _governor(plan: Mapping[str, Any]) -> Markup:
    rows = [
        [row["predictor"], row["parameters"], row["patients"], row["events"],
         "no solution" if row["needed"] is None else row["needed"], row["shrinkage"], row["verdict"]]
        for row in plan["governor"]
    ]  # fmt: skip
    header = ("Regression", "Parameters", "Patients", "Events", "Patients asked for", "Expected shrinkage", "Verdict")
    return table(header, rows, "Riley's criteria for the candidate parameters of each regression")


def _minutes(seconds: float) -> str:
    return f"{seconds:g} s" if seconds < 120 else f"{seconds / 60:g} min" if seconds < 7200 else f"{seconds / 3600:g} h"
