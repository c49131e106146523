"""The first words of a report: what was made, for whom, how good it is, and what that means."""

from __future__ import annotations

from typing import Any

from osml.report.candidates import choice_words, chosen
from osml.report.figures_decision import decision_words
from osml.report.html import Markup, join, number, tag
from osml.report.run import Run
from osml.report.summary_classes import class_performance, class_warnings
from osml.report.wording import counts_words, event_words, split_words

DESCRIBED = 3  # predictors told in words; the table holds all
RESEARCH = "Research use only. Not a medical device; no advice on treatment."


def warnings(run: Run) -> list[str]:
    """What must stand above everything else, the gravest first."""
    out = []
    if run.facts["synthetic"]:
        out.append(f"SYNTHETIC DATA: {run.facts['synthetic']}. No number here says anything about real patients.")
    if run.withheld:
        out.append(f"{run.withheld[0].upper()}{run.withheld[1:]}.")
    if run.classes:
        out += class_warnings(run)
    small = [c for c in run.checks if c["code"] in ("OSML041", "OSML042")]
    if small:
        accepted = f" Accepted with the reason: {small[0]['accepted']}." if small[0]["accepted"] else ""
        out.append(f"Exploratory: {small[0]['title']}. {_subject(small[0])}{small[0]['evidence']}.{accepted}")
    others = sorted({c["code"] for c in run.checks if c["accepted"]} - {c["code"] for c in small})
    if others:
        out.append(f"Checks that refused this study and were accepted with a reason: {', '.join(others)}.")
    failures = {entry["predictor"] for entry in run.metrics.get("failures", ())}
    failures |= {name for name, facts in run.metrics["predictors"].items() if "failed" in facts.get("final", {})}
    failed = [name for name in run.metrics["predictors"] if name in failures]
    if failed:
        out.append(f"Not all fits succeeded: {', '.join(failed)}.")
    late = [name for name, facts in run.metrics["predictors"].items() if facts["failed_folds"] and name not in failures]
    if late:
        out.append(f"Not validated within the time limit: {', '.join(late)}.")
    return out


def _subject(check: Any) -> str:
    return f"{check['subject']}: " if check["subject"] else ""


def summary_paragraphs(run: Run) -> list[Markup]:
    """The study in plain words, about ten sentences."""
    out = [_what(run), _how(run)]
    # What the study sets side by side comes first.
    compared = [name for name in run.schema.report.compare if name in run.metrics["predictors"]]
    first = [chosen(run)] if chosen(run) else []
    names = list(dict.fromkeys([*first, *compared, *run.metrics["predictors"]]))
    choice = choice_words(run)
    if choice is not None:
        out.append(choice)
    out += [_performance(run, name) for name in names[:DESCRIBED]]
    if len(names) > DESCRIBED:
        more = len(names) - DESCRIBED
        words = "1 more predictor stands" if more == 1 else f"{more} more predictors stand"
        out.append(tag("p", f"{words} in the table of results."))
    if len(names) > 1 and not first:
        out.append(
            tag("p", "Whoever picks the best of several predictors by this report sees it too favourably",
                "." if run.classes and run.alone else "; the comparisons below are corrected for their number.")
        )  # fmt: skip
    out.append(tag("p", _validity(run)))
    return out


def _what(run: Run) -> Markup:
    facts = run.facts
    who = facts["population"] or "the patients of this table"
    place = ", ".join(str(facts[key]) for key in ("centre", "period") if facts[key])
    moment = str(facts["time_of_prediction"]).replace("_", " ")
    horizons = ""
    if run.survival:
        times = " and ".join(f"{h:g}" for h in getattr(run.outcome, "horizons", ()))
        horizons = f" within {times} {getattr(run.outcome, 'unit', '')}s"
    return tag(
        "p",
        f"This study predicts {event_words(run)}{horizons}, at the time “{moment}”, for {who}"
        f"{f' ({place})' if place else ''}. It rests on {counts_words(run)}.",
    )


def _how(run: Run) -> Markup:
    if run.independent_test:
        return tag("p", f"Predictors were judged by {split_words(run)}, once.")
    return tag(
        "p",
        f"Predictors were judged by {split_words(run)}: every number about performance comes from patients whom the "
        "model had not seen, and whatever is learnt from data was learnt again in each fold.",
    )


def _performance(run: Run, name: str) -> Markup:
    if run.classes:
        return class_performance(run, name)
    facts = run.metrics["predictors"][name]
    found = facts["out_of_fold"]
    if run.measure not in found:
        return tag("p", tag("strong", name), f": {found['reason']}.")
    entry, path = found[run.measure], ("predictors", name, "out_of_fold")
    label = "Harrell's C" if run.survival else "AUC"
    if entry.get("value") is None:
        parts: list[object] = [tag("strong", name), f": no {label} ({entry['reason']}). "]
        return tag("p", *parts, _pooled(entry, path, run.measure))
    here = (*path, run.measure)
    parts = [tag("strong", name), f": {label} ", number(entry["value"], 2, (*here, "value"))]
    if entry.get("low") is not None:
        parts += [
            ", 95 % interval ", number(entry["low"], 2, (*here, "low")), " to ",
            number(entry["high"], 2, (*here, "high")), f" ({entry['interval']})",
        ]  # fmt: skip
    else:
        parts.append(f" ({entry.get('reason', 'no interval available')})")
    pairs = f"{100 * entry['value']:.0f} of 100"
    if run.survival:
        parts.append(
            f". Of two patients, the one with the event first was given the higher risk in about {pairs} pairs"
        )
    else:
        parts.append(
            f". Of one patient with and one without the event, the first had the higher score in about {pairs} pairs"
        )
    parts += ["; 50 is chance. ", _against_chance(entry)]
    if not run.withheld:
        parts += [_slope(found, path), " ", decision_words(run, name)]
    sentence = facts.get("ablation", {}).get("sentence")
    if sentence:
        parts += [" ", sentence]
    return tag("p", *parts)


def _pooled(entry: dict[str, Any], path: tuple[str, ...], key: str) -> Markup:
    if entry.get("pooled") is None:
        return Markup("")
    parts: list[object] = ["Pooled over folds, secondary: ", number(entry["pooled"], 2, (*path, key, "pooled"))]
    if entry.get("permutation_mean") is not None:
        parts += [", where noise gives ", number(entry["permutation_mean"], 2, (*path, key, "permutation_mean"))]
    return join([*parts, f". {entry.get('note', '')}"])


def _against_chance(entry: dict[str, Any]) -> str:
    low, high = entry.get("low"), entry.get("high")
    if low is None or high is None:
        return ""
    if low <= 0.5 <= high:
        return "The interval includes chance: these data do not show that the predictor is of use. "
    return "" if low > 0.5 else "The interval lies below chance: the predictor misleads. "


def _slope(found: dict[str, Any], path: tuple[str, ...]) -> Markup:
    value = found.get("slope", {}).get("value")
    if value is None:
        return Markup("")
    if value < 0.8:
        words = "its risks are too extreme for new patients"
    elif value > 1.25:
        words = "its risks are too close together"
    else:
        words = "its risks are neither much too extreme nor much too close together"
    return join([f"By the calibration slope, {words} (", number(value, 2, (*path, "slope", "value")), "; 1 is ideal)."])


def _validity(run: Run) -> Markup:
    words = str(run.facts["validation"])
    rest = ". How well it does in another hospital or a later year is not known." if "internally" in words else "."
    return join([tag("strong", words[0].upper() + words[1:]), rest, " ", RESEARCH])
