"""The choice among the predictors, and what one adds to another: metrics["selection"] and metrics["adds"] in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from osml.report.exhibit import Exhibit
from osml.report.html import Markup, Path, details, join, number, table, tag
from osml.report.run import Run

Cells = list[object]
NAMES = {
    "auc": "AUC", "c": "Harrell's C", "macro_f1": "macro-F1", "macro_auc": "macro-AUC", "brier": "Brier score",
    "log_loss": "log-loss",
}  # fmt: skip
DIGITS = {"brier": 3, "log_loss": 3}
LOWER = ("brier", "log_loss")


def chosen(run: Run) -> str:
    """Name of the chosen predictor, "" where none was chosen."""
    return str(run.metrics.get("selection", {}).get("winner", ""))


def asked(run: Run) -> bool:
    """Whether there is anything for the section."""
    return "selection" in run.metrics or bool(run.metrics.get("adds"))


def choice_words(run: Run) -> Markup | None:
    """Who was chosen, its value as measured and corrected; None where no choice was asked for."""
    found = run.metrics.get("selection")
    if found is None:
        return None
    if "winner" not in found:
        return tag("p", f"{found['reason'][0].upper()}{found['reason'][1:]}.")
    entry = next(one for one in found["table"] if one["predictor"] == found["winner"])
    main = found["measures"][0]
    name = NAMES[main]
    parts: list[object] = ["Chosen among ", len(found["table"]), " predictors: ", tag("strong", found["winner"])]
    if found["best"] == found["winner"]:
        parts.append(", which has the lowest log-loss; no simpler one is within one standard error of it. ")
    else:
        parts.append(
            f" ({entry['complexity']}), the simplest within one standard error of {found['best']}, which has the "
            "lowest log-loss. "
        )
    before, after = found["uncorrected"][main], found["corrected"][main]
    if before.get("value") is not None and after.get("value") is not None:
        where: Path = ("selection", "uncorrected", main)
        parts += [f"As measured its {name} is ", _value(before, main, where), "; corrected for the choice it is ",
                  _value(after, main, ("selection", "corrected", main)), "."]  # fmt: skip
    return tag("p", *parts)


def section(run: Run, exhibit: Exhibit | None, figures: Callable[[Sequence[Exhibit]], Markup]) -> list[object]:
    """The choice, its table and figure, comparisons with the chosen one, and what one predictor adds to another."""
    found = run.metrics.get("selection")
    out: list[object] = []
    if found is not None:
        out += [
            choice_words(run),
            tag("p", tag("strong", "The rule, fixed before the losses were seen. "), found["rule"]),
        ]
        out += [_board(found), tag("p", found["note"], class_="note")]
        if exhibit is not None:
            out.append(figures([exhibit]))
        if "winner" in found:
            out.append(_before_and_after(found))
            if "test_set" in found:
                out.append(tag("p", found["test_set"], class_="note"))
            if found["comparisons"]:
                out.append(details(f"Every other predictor against {found['winner']}", *_comparisons(found)))
    if run.metrics.get("adds"):
        out += _adds(run.metrics["adds"])
    return out


def _board(found: Mapping[str, Any]) -> Markup:
    """Every predictor as measured, not corrected."""
    main = found["measures"][0]
    rows: list[Cells] = []
    for k, entry in enumerate(found["table"]):
        path: Path = ("selection", "table", k)
        won = entry["predictor"] == found.get("winner")
        row: Cells = [
            tag("strong", f"{entry['predictor']} (chosen)") if won else entry["predictor"],
            entry["complexity"],
        ]
        if "reason" in entry and main not in entry:
            rows.append([*row, entry["reason"], "–", "–", "–"])
            continue
        row.append(_value(entry.get(main, {}), main, (*path, main)))
        row.append(_value(entry.get("log_loss", {}), "log_loss", (*path, "log_loss")))
        if entry.get("difference") is None:
            row.append("–")
        elif entry["predictor"] == found["best"]:
            row.append("the best")
        else:
            sides = [
                number(entry["difference"], 3, (*path, "difference")),
                " ± ",
                number(entry["se"], 3, (*path, "se")),
            ]
            row.append(join([*sides, ", within one SE" if entry["within"] else ""]))
        share = entry.get("chosen_share")
        row.append("–" if share is None else f"{100 * share:.0f} %")
        rows.append(row)
    header = ("Predictor", "Complexity", f"{NAMES[main]} (95 % interval)", "Log-loss (95 % interval)",
              "Log-loss above the best ± SE", "Chosen in resamples")  # fmt: skip
    return table(header, rows, "Candidates as measured out of fold, not corrected for the choice", text_columns=2)


def _before_and_after(found: Mapping[str, Any]) -> Markup:
    rows: list[Cells] = []
    kinds: dict[str, None] = {}
    for key in found["corrected"]:
        before, after = found["uncorrected"].get(key, {}), found["corrected"][key]
        words = f"{NAMES[key]}{' (lower is better)' if key in LOWER else ''}"
        rows.append([words, _value(before, key, ("selection", "uncorrected", key)),
                     _value(after, key, ("selection", "corrected", key))])  # fmt: skip
        if after.get("interval"):
            kinds[f"Interval of the corrected values: {after['interval']}."] = None
    header = ("Measure", "As measured", "Corrected for the choice")
    shown = table(header, rows, f"{found['winner']} before and after the correction for the choice")
    how = (
        f"Corrected: in each of {found['draws']} resamples of patients, with all their rows and repeats, the same rule "
        "chose anew, and its choice was judged on the patients that were not drawn. Part of the luck that folds share "
        "through their training patients is taken off as well. It is what to expect of whatever this rule chooses."
    )
    return join([shown, *(tag("p", text, class_="note") for text in (how, *kinds))])


def _comparisons(found: Mapping[str, Any]) -> list[object]:
    rows: list[Cells] = []
    for k, entry in enumerate(found["comparisons"]):
        path: Path = ("selection", "comparisons", k)
        words = f"{NAMES[entry['measure']]}{' (lower is better)' if entry['better'] == 'lower' else ''}"
        row: Cells = [f"{entry['first']} − {entry['second']}", words]
        if "p" in entry:
            ends = [number(entry[key], 3, (*path, key)) for key in ("low", "high")]
            span = [number(entry["difference"], 3, (*path, "difference")), " (", ends[0], " to ", ends[1], ")"]
            row += [join(span), number(entry["p_holm"], 3, (*path, "p_holm")), entry["test"]]
        else:
            row += [number(entry.get("difference"), 3, (*path, "difference")), "–", entry.get("reason", "not tested")]
        rows.append(row)
    header = ("Pair", "Measure", "Difference (95 % interval)", "p (Holm)", "Test or reason")
    note = (
        "Nadeau-Bengio: variance corrected for training sets that overlap between folds. Holm: corrected for the "
        f"number of comparisons of a measure. {found['comparisons_note']}"
    )
    shown = table(header, rows, f"Every other predictor minus {found['winner']}", text_columns=2)
    return [shown, tag("p", note, class_="note")]


def _adds(entries: Sequence[Mapping[str, Any]]) -> list[object]:
    """What the second predictor of each pair adds to the first."""
    rows: list[Cells] = []
    reasons: dict[str, None] = {}
    for k, entry in enumerate(entries):
        pair = f"{entry['with']} − {entry['without']}"
        if "reason" in entry:
            rows.append([pair, entry["reason"], "–", "–", "–"])
            continue
        for key, one in entry["measures"].items():
            words = f"{NAMES[key]}{' (lower is better)' if key in LOWER else ''}"
            rows.append([pair, words, *_both(one, key, ("adds", k, "measures", key))])
        benefit = entry["net_benefit"]
        if isinstance(benefit, Mapping):
            reasons[f"No net benefit: {benefit['reason']}."] = None
            continue
        for m, one in enumerate(benefit):
            words = f"net benefit at a risk of {100 * one['threshold']:g} %"
            rows.append([pair, words, *_both(one, "log_loss", ("adds", k, "net_benefit", m))])
        kinds = {one["difference"].get("interval") for one in (*entry["measures"].values(), *benefit)}
        reasons |= dict.fromkeys(f"Interval: {kind}." for kind in sorted(kinds - {None}))
    header = ("Pair", "Measure", "Without", "With", "Difference (95 % interval)")
    shown = table(header, rows, "What the second predictor adds to the first, on the same folds", text_columns=2)
    sentences = [tag("p", entry["sentence"]) for entry in entries if "sentence" in entry]
    notes = list(dict.fromkeys(entry["note"] for entry in entries if "note" in entry))
    return [tag("h3", "What one predictor adds to another"), *sentences, shown,
            *(tag("p", text, class_="note") for text in (*notes, *reasons))]  # fmt: skip


def _both(one: Mapping[str, Any], key: str, path: Path) -> Cells:
    digits = DIGITS.get(key, 2)
    return [number(one["without"], digits, (*path, "without")), number(one["with"], digits, (*path, "with")),
            _value(one["difference"], key, (*path, "difference"))]  # fmt: skip


def _value(entry: Mapping[str, Any], key: str, path: Path) -> Markup:
    """A number with its interval, or why there is none."""
    digits = DIGITS.get(key, 2)
    if entry.get("value") is None:
        return join([entry.get("reason", "–")])
    parts: list[object] = [number(entry["value"], digits, (*path, "value"))]
    if entry.get("low") is not None:
        parts += [" (", number(entry["low"], digits, (*path, "low")), " to ",
                  number(entry["high"], digits, (*path, "high")), ")"]  # fmt: skip
    return join(parts)
