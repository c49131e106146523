"""What stands beside every prediction, in words: for whom it holds, what the number means, how sure it is."""

from __future__ import annotations

from osml.predictors.contract import NO_INTERVAL
from osml.serving.model import Model
from osml.serving.rows import Row

NOT_STATED = "not stated"
OUTCOME_AS_IT_IS = "none: the outcome as it turns out"
EQUAL_SHARES = "Probabilities are stated for equal class shares: the units of this study were chosen by class"


def statement(model: Model) -> list[tuple[str, str]]:
    """(heading, words) in the order in which they must be read: event, horizon, time, patients, validation."""
    facts = model.facts
    horizons = ", ".join(f"{h:g}" for h in model.horizons)
    return [
        *_outcome(model),
        *(
            [("Horizon", f"{horizons} {model.time_unit}s after prediction" if horizons else OUTCOME_AS_IT_IS)]
            if not model.classes
            else []
        ),
        ("Time of prediction", str(facts["time_of_prediction"]).replace("_", " ")),
        ("Population", str(facts["population"] or NOT_STATED)),
        ("Centre", str(facts["centre"] or NOT_STATED)),
        ("Years", str(facts["period"] or NOT_STATED)),
        ("Developed with", _developed(model)),
        ("Validation", str(facts["validation"])),
        *(("Caution", words) for words in cautions(model)),
    ]


def _outcome(model: Model) -> list[tuple[str, str]]:
    if not model.classes:
        return [("Event", str(model.facts["event"]))]
    out = [("Classes", ", ".join(model.classes))]
    return [("Outcome", str(model.facts["event"])), *out] if model.facts.get("event") else out


def _developed(model: Model) -> str:
    facts = model.facts
    if not model.classes:
        return f"{facts['n']} patients, {facts['events']} with the event"
    counts = ", ".join(f"{name} {n}" for name, n in (facts.get("outcomes") or {}).items())
    rows = facts.get("rows")
    words = f"{facts['n']} patients" + (f", {rows} rows" if rows and rows != facts["n"] else "")
    return f"{words}: {counts}" if counts else words


def cautions(model: Model) -> list[str]:
    """Checks that this model did not pass, with the reason for which they were accepted."""
    out = [EQUAL_SHARES] if model.equal_shares else []
    for check in model.facts["checks"]:
        if check["subject"] in ("", model.name, *model.schema.inputs):
            reason = model.facts["accepted"].get(check["code"])
            of = f" ({check['subject']})" if check["subject"] in model.schema.inputs else ""
            out.append(f"{check['title']}{of} [{check['code']}]" + (f"; accepted: {reason}" if reason else ""))
    return list(dict.fromkeys(out))


def fact_rows(model: Model) -> list[tuple[str, str]]:
    """`statement` and what else a model card needs: sampling, prevalence, accepted checks, identity."""
    facts = model.facts
    prevalence = facts["prevalence"]
    rows = statement(model)
    rows.append(("Sampling", str(facts["sampling"]).replace("_", "-")))
    if prevalence:
        rows.append(("Prevalence", f"{prevalence['value']:g} ({prevalence['source']})"))
    if model.withheld:
        rows.append(("Withheld", model.withheld))
    if facts["synthetic"]:
        rows.append(("Synthetic data", str(facts["synthetic"])))
    return [
        *rows,
        ("Model", f"{model.schema.name} / {model.name}"),
        ("osml", str(model.bundle.manifest["osml"])),
        ("SHA-256 of the manifest", model.bundle.model_hash),
    ]


def percent(p: float) -> str:
    """A probability as a reader needs it: whole percent, and never 0 or 100.

    >>> percent(0.3241), percent(0.001), percent(0.9999)
    ('32 %', 'below 1 %', 'above 99 %')
    """
    if p < 0.01:
        return "below 1 %"
    return "above 99 %" if p > 0.99 else f"{100 * p:.0f} %"


def in_hundred(p: float) -> str:
    """The same as a natural frequency.

    >>> in_hundred(0.3241), in_hundred(0.001)
    ('32 of 100', 'fewer than 1 of 100')
    """
    if p < 0.01:
        return "fewer than 1 of 100"
    return "more than 99 of 100" if p > 0.99 else f"{100 * p:.0f} of 100"


def interval_words(row: Row, k: int = 0) -> str:
    """The k-th interval with its kind, or that there is none.

    >>> interval_words(Row(1, "", "ok", (0.3,)))
    'no interval available'
    """
    if row.low is None or row.high is None:
        return NO_INTERVAL
    return f"{percent(row.low[k])} to {percent(row.high[k])}: {row.interval}"


def risk_words(model: Model, k: int) -> str:
    """What the k-th probability is of, where the target is an event: "relapse by 12 months"."""
    return str(model.facts["event"]) + (f" by {model.columns[k]}s" if model.horizons else "")


def frequency_words(model: Model, row: Row, k: int) -> str:
    """The k-th probability as a sentence about a hundred patients, with its interval where there is one."""
    horizon = f" by {model.columns[k]}s" if model.horizons else ""
    words = f"{in_hundred(row.p[k])} patients like this are expected to have the event{horizon}"
    if row.low is not None and row.high is not None:
        words += f" (interval: {in_hundred(row.low[k])} to {in_hundred(row.high[k])})"
    return f"{words}."


def undecided_words(row: Row) -> str:
    """Between what a model leaves it open that does not decide."""
    inside = ", ".join(row.inside or ())
    return f"The model leaves this open between: {inside}." if inside else "No class is likely enough."


_MEASURES = (
    ("auc", "AUC"), ("c", "Harrell's C"), ("macro_f1", "macro-F1"), ("macro_auc", "macro AUC"), ("slope",
    "calibration slope"), ("brier", "Brier score"),
)  # fmt: skip


def measure_words(model: Model) -> list[str]:
    """Measures of held-out predictions, with the interval and its kind where there is one; or why there are none."""
    facts = model.facts["predictors"].get(model.name, {})
    found = facts.get("out_of_fold", {})
    out = []
    for key, name in _MEASURES:
        cell = found.get(key)
        if not isinstance(cell, dict) or cell.get("value") is None:
            continue
        words = f"{name} {cell['value']:.2f}"
        if cell.get("low") is not None:
            words += f" ({cell['low']:.2f} to {cell['high']:.2f}; {cell.get('interval', 'interval')})"
        out.append(words)
    return out or [str(found.get("reason", "not measured on held-out patients"))]
