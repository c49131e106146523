"""`osml init`: a commented schema from a table, every guess with its evidence, every question marked "?".

What a table shows is written down (types, levels, missing tokens); what only a person knows (sampling, times, which
value is the event) is asked. Columns that cannot be inputs are listed with the reason.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from osml.cohort.columns import Seen, look
from osml.cohort.table import FORMATS, Table, read_table
from osml.errors import TableError
from osml.schema.suggest import hint

ASK = '"?"'
_PATIENT_WORDS = frozenset({"patient", "subject", "participant", "mrn", "pid", "case", "person"})
_EVENTS = {"0": "1", "no": "yes", "false": "true", "negative": "positive", "absent": "present", "alive": "dead"}
_OUTCOME_WORDS = frozenset({
    "outcome", "status", "died", "dead", "death", "followup", "follow", "survival", "relapse", "recurrence",
    "progression", "response", "event", "os", "pfs", "dfs",
})  # fmt: skip
_RESERVED = frozenset({"true", "false", "null", "yes", "no", "on", "off", "none", "nan", "inf", "y", "n"})


def draft_schema(table: Path, out: Path, *, patient: str | None = None, target: str | None = None) -> str:
    """Text of a schema for a table; nothing is written.

    Parameters
    ----------
    table : CSV, TSV, Parquet or XLSX with one sheet
    out : where the schema will be written; the path to the table is relative to it
    patient, target : columns, where known; otherwise asked (a target of positive numbers is taken as a follow-up time)

    Returns
    -------
    str : YAML with comments. It loads once every "?" is answered.

    Raises
    ------
    TableError
        The table cannot be read, a named column is not in it, or no column can be an input.
    """
    delimiter = _delimiter(table)
    read = read_table(table, delimiter=delimiter)
    for column in (patient, target):
        if column is not None and column not in read.columns:
            raise TableError(f"no column {column!r} in {read.name}", do=hint(column, read.columns))
    seen = {column: look(column, read.column(column)) for column in read.columns}
    patient_lines, patient = _patient(read, seen, patient)
    target_lines = _target(seen[target]) if target else _ask_target(seen, patient)
    candidates = [_kit_side(s, seen) for s in seen.values() if s.column not in (patient, target)]
    inputs, names = _inputs(candidates)
    if not names:
        raise TableError(f"no column of {read.name} can be an input", do="Reasons:\n  " + "\n  ".join(inputs))
    complete = _complete(read, [s for s in candidates if not s.unusable])
    lines = [
        f"# Draft from {_plain(read.name)}: {len(read.rows)} rows, {len(read.columns)} columns.",
        f"# Every {ASK} is yours to answer: only somebody who knows the study can. Then: osml check {_plain(out.name)}",
        "version: 1",
        f"name: {_study_name(table)}",
        "study:",
        f"  sampling: {ASK}  # cohort (every eligible patient) | case_control | enriched (chosen by outcome)",
        "  # title, endpoint, population, centre, period: texts printed on every output",
        "cohort:",
        f"  table: {scalar(_relative(table, out))}",
        *([f"  delimiter: {scalar(delimiter)}"] if delimiter else []),
        *patient_lines,
        *_missing(seen),
        f"time_of_prediction: {ASK}  # one of `times`: the moment at which the model will be used",
        f"times: [{ASK}]  # moments in order, e.g. [diagnosis, before_treatment, after_surgery]",
        *target_lines,
        "# decision: {action: …, act_on: …, thresholds: [0.1, 0.4], why: …}  # needed for decision curves",
        "# `available`: when the value is known, one of `times`. Further keys: unit, label, limits: [low, high].",
        "inputs:",
        *inputs,
        "predictors:",
        f"  {_unused('clinical', names)}:",
        "    kind: nomogram",
        f"    inputs: [{', '.join(map(_key, names))}]",
        f"missing: complete_case  # or impute; {complete} of {len(read.rows)} rows have every input",
        "validation:",
        "  split: {kind: kfold, folds: 5, repeats: 5}",
        "  seed: 2026",
    ]
    return "\n".join(lines) + "\n"


def scalar(text: str) -> str:
    """A text as YAML reads it back: plain where that is safe, else quoted with escapes.

    >>> scalar("femur"), scalar("no"), scalar("1"), scalar('a"b: c'), scalar("")
    ('femur', '"no"', '"1"', '"a\\\\"b: c"', '""')
    """
    if re.fullmatch(r"[^\W\d][\w./-]*", text) and text.lower() not in _RESERVED and text.isprintable():
        return text
    if text == "?":
        return "'?'"  # a cell; the questions of a draft are written "?"
    return '"' + "".join(_escaped(ch) for ch in text) + '"'


def _escaped(ch: str) -> str:
    if ch in '"\\':
        return "\\" + ch
    if ch.isprintable():
        return ch
    return f"\\u{ord(ch):04x}" if ord(ch) < 0x10000 else f"\\U{ord(ch):08x}"


def _plain(text: str) -> str:
    """A text for a comment: on one line, short, nothing unprintable."""
    return _plain_long(text if len(text) <= 40 else text[:39] + "…")


def _plain_long(text: str) -> str:
    return "".join(_escaped(ch) if not ch.isprintable() else ch for ch in text)


def _key(name: str) -> str:
    return (
        name if re.fullmatch(r"[^\W\d]\w*", name) and name.isascii() and name.lower() not in _RESERVED else scalar(name)
    )


def _delimiter(table: Path) -> str | None:
    """The delimiter of a text table if it is not the one that its ending promises."""
    expected = FORMATS.get(table.suffix.lower())
    if expected is None or not table.is_file():
        return None
    with table.open("rb") as stream:
        header = stream.readline(1_000_000).decode("utf-8-sig", errors="replace")
    best = max((expected, ",", ";", "\t", "|"), key=header.count)
    return best if best != expected and expected not in header else None


def _relative(table: Path, out: Path) -> str:
    return Path(os.path.relpath(table.resolve(), out.resolve().parent)).as_posix()


def _study_name(table: Path) -> str:
    return scalar(re.sub(r"[^A-Za-z0-9_.-]+", "-", table.stem).lstrip("_.-") or "study")


def _patient(table: Table, seen: dict[str, Seen], patient: str | None) -> tuple[list[str], str | None]:
    """Lines of `cohort.patient`, and the column if it is known: named by the caller, or evident from its heading."""
    n = len(table.rows)
    candidates = [
        s
        for s in seen.values()
        if not s.dates and (s.identifier or (len(s.levels) == n and not s.blank and s.numeric != "real"))
    ]
    evident = [s.column for s in candidates if _PATIENT_WORDS & set(re.split(r"[^a-z]+", s.column.lower()))]
    if patient is None and len(evident) == 1:
        patient = evident[0]
    if patient is None:
        listed = ", ".join(f"{_plain(s.column)} ({len(s.levels)} distinct values)" for s in candidates[:6])
        evidence = f"in {n} rows: {listed}" if listed else "no column names each row; add one to the table"
        return [f"  patient: {ASK}  # which column names the patient? {evidence}"], None
    ids = seen[patient]
    lines = [f"  patient: {scalar(patient)}  # {len(ids.levels)} distinct values in {n} rows"]
    if ids.blank:
        lines.append(f"  # {ids.blank} rows have no patient id: they will be refused until they have one")
    if len(ids.levels) < n - ids.blank:
        lines.append("  # Several rows per patient: they must agree in every column used here, or name the rows:")
        lines.append("  # row: …  # column that names the row; then each row is predicted")
    return lines, patient


def _missing(seen: dict[str, Seen]) -> list[str]:
    counts: dict[str, list[int]] = {}
    for s in seen.values():
        for token, count in s.missing.items():
            counts.setdefault(token, []).append(count)
    order = sorted(counts, key=lambda token: (token != "", token))
    if not order:
        return ['  missing: [""]  # no cell is empty or reads like "NA"']
    found = "; ".join(
        f"{scalar(t)}: {_many(sum(counts[t]), 'cell')} in {_many(len(counts[t]), 'column')}" for t in order
    )
    tokens = order if "" in order else ["", *order]
    return [f"  missing: [{', '.join(map(scalar, tokens))}]  # {found}"]


def _many(n: int, word: str) -> str:
    return f"{n} {word}" if n == 1 else f"{n} {word}s"


def _target(s: Seen) -> list[str]:
    counts = _counts(s)
    if len(s.levels) == 2:
        first, second = s.levels
        pairs = {first.lower(): second.lower(), second.lower(): first.lower()}
        negative = next((low for low, high in _EVENTS.items() if pairs.get(low) == high), None)
        event = None if negative is None else (second if first.lower() == negative else first)
        answer, note = (ASK, "which value is the event?") if event is None else (scalar(event), "the event; check it")
        return [
            "target:",
            "  kind: binary",
            f"  column: {scalar(s.column)}  # {counts}",
            f"  positive: {answer}  # {note}",
        ]
    if s.numeric and s.low > 0:
        return [
            "target:",
            f"  kind: survival  # {_plain(s.column)}: {len(s.levels)} numbers above 0, taken as follow-up",
            f"  time: {scalar(s.column)}  # {s.low:g} to {s.high:g}",
            f"  event: {ASK}  # column that says whether the event happened; then remove it from the inputs",
            f"  positive: {ASK}  # its value for the event",
            f"  unit: {ASK}  # day | week | month | year",
            f"  horizons: [{ASK}]  # times at which risk is predicted, increasing",
            f"  competing: {ASK}  # none, or the columns of competing events",
        ]
    raise TableError(
        f"column {s.column!r} cannot be the outcome: it has {len(s.levels)} values ({counts})",
        why="A binary outcome has two values; a follow-up time holds numbers above 0.",
        do="Derive a column with two values, or name another one.",
    )


def _ask_target(seen: dict[str, Seen], patient: str | None) -> list[str]:
    pairs = [_plain(s.column) for s in seen.values() if len(s.levels) == 2 and s.column != patient]
    shown = f"; with two values: {', '.join(pairs[:12])}" if pairs else ""
    return [
        "target:",
        "  kind: binary  # or {kind: survival, time: …, event: …, unit: month, horizons: [12], competing: none}",
        f"  column: {ASK}  # which column is the outcome? Remove it from the inputs below{shown}",
        f"  positive: {ASK}  # which of its values is the event?",
    ]


def _kit_side(s: Seen, seen: dict[str, Seen]) -> Seen:
    """`ldh_low` and `ldh_high` beside `ldh` are a reference range, not two inputs."""
    lab, side = s.column.rpartition("_")[::2]
    pair = (f"{lab}_low", f"{lab}_high")
    if side.lower() not in ("low", "high") or not all(c in seen and seen[c].numeric for c in (lab, *pair)):
        return s
    use = f"{{kind: lab, unit: …, kit: {{low: {pair[0]}, high: {pair[1]}}}}}"
    return replace(
        s, unusable=s.unusable or f"looks like the kit range of {_plain(lab)}; use it there as {_plain_long(use)}"
    )


def _inputs(columns: Sequence[Seen]) -> tuple[list[str], list[str]]:
    """Lines of the inputs block, columns left out among them as comments, and the names of the inputs."""
    lines: list[str] = []
    names: list[str] = []
    for s in columns:
        reason = s.unusable
        if reason:
            lines.append(f"  # left out: {_plain(s.column)}: {reason}")
            continue
        name = re.sub(r"\W+", "_", s.column).strip("_")
        name = _unused(name if re.match(r"[^\W\d]", name) else f"input_{name}".rstrip("_"), names)
        names.append(name)
        lines.append(f"  {_key(name)}:")
        if name != s.column:
            lines += [f"    column: {scalar(s.column)}", f"    label: {scalar(s.column)}"]
        lines += _kind(s)
        suspect = _OUTCOME_WORDS & set(re.split(r"[^a-z]+", s.column.lower()))
        after = f"  # {', '.join(sorted(suspect))}: is it known before the prediction is made?" if suspect else ""
        lines.append(f"    available: {ASK}{after}")
    return lines, names


def _kind(s: Seen) -> list[str]:
    gaps = f"; {_many(s.blank, 'cell')} missing" if s.blank else ""
    if s.is_number:
        lines = [f"    kind: number  # {s.low:g} to {s.high:g}, {len(s.levels)} distinct values{gaps}"]
        if s.numeric == "whole" and len(s.levels) <= 5 and not (s.below or s.above):
            codes = ", ".join(scalar(level) for level in s.levels)
            lines.append(f"    # {_counts(s)}; if these are codes: {{kind: category, levels: [{codes}]}}")
        rules = {"below": (s.below, "half | limit"), "above": (s.above, "limit")}
        asked = {side: (cells, rule) for side, (cells, rule) in rules.items() if cells}
        if asked:
            questions = ", ".join(f"{side}: {ASK}" for side in asked)
            lines.append(f"    censored: {{{questions}}}")
            for side, (cells, rule) in asked.items():
                lines.append(f"    # {side}: {rule}; {_many(len(cells), 'cell')} like '{_plain(cells[0])}'")
        return lines
    kind = "binary" if len(s.levels) == 2 else "category"
    levels = ", ".join(map(scalar, s.levels))
    lines = [f"    kind: {kind}", f"    levels: [{levels}]  # the first is the reference", f"    # {_counts(s)}{gaps}"]
    if s.padded:
        lines.append(f"    # {s.padded} cells have blanks around them: written as they stand in the table")
    return lines


def _counts(s: Seen) -> str:
    shown = ", ".join(f"{_plain(level)}: {s.counts[level]}" for level in s.levels[:8])
    return shown + (f", … {len(s.levels)} in all" if len(s.levels) > 8 else "")


def _complete(table: Table, used: Sequence[Seen]) -> int:
    columns = [(table.column(s.column), set(s.missing)) for s in used]
    return sum(all(cells[i] not in gone for cells, gone in columns) for i in range(len(table.rows)))


def _unused(name: str, taken: Sequence[str]) -> str:
    number, out = 2, name
    while out in taken:
        out, number = f"{name}_{number}", number + 1
    return out
