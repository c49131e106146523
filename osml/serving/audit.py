"""Who predicted what with which model, and how it ended. No value, no file name and no patient is written down.

One append-only table. Every action is written before it begins ("started") and again when it has ended: what has no
second line was killed half-way. A line that cannot be written refuses the action. What was sent is recorded as an HMAC
under a key that stays on the server: equal inputs can be found again by whoever has the key, and by nobody guessed.
"""

from __future__ import annotations

import hashlib
import hmac
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from osml.errors import OsmlError
from osml.files import csv_text
from osml.serving.database import AUDIT, AuditError, default_url, existing, failed, key_of, opened, shown_url

Action = Literal["predict", "predict table", "download", "train", "publish", "clear", "login"]
ANONYMOUS = "anonymous"
HEADER = tuple(AUDIT.columns.keys())
STARTED, OK, REFUSED, FAILED = "started", "ok", "refused", "failed"


@dataclass(frozen=True)
class Entry:
    """One action; `rows` is known when it has ended, of a table."""

    action: str
    user: str
    session: str
    bundle: str = ""
    predictor: str = ""
    input_hash: str = ""
    rows: int | None = None
    event: str = ""


class Taken:
    """What an action tells the log while it runs."""

    def __init__(self) -> None:
        self.rows: int | None = None
        self.refused = ""

    def refuse(self, kind: str) -> None:
        """The action ended without what was asked for, in words and not by an error."""
        self.refused = kind


@dataclass(frozen=True)
class AuditLog:
    """An open log."""

    engine: Engine
    key: bytes

    def input_hash(self, *parts: bytes | str) -> str:
        """HMAC-SHA256 of what was sent, each part with its length."""
        digest = hmac.new(self.key, digestmod=hashlib.sha256)
        for part in parts:
            raw = part.encode("utf-8", errors="surrogatepass") if isinstance(part, str) else part
            digest.update(len(raw).to_bytes(8, "big") + raw)
        return digest.hexdigest()

    def session_token(self, session: str) -> str:
        """Names a browser session in the log without being the name under which the server knows it."""
        return self.input_hash("session", session)[:16]

    def write(self, entry: Entry, outcome: str, error: str = "") -> None:
        """Append one line; it is on disk when this returns.

        Raises
        ------
        AuditError
        """
        line = {
            "time_utc": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "event": entry.event,
            "user": _one_line(entry.user, 200) or ANONYMOUS,
            "session": entry.session,
            "action": entry.action,
            "outcome": outcome,
            "error": error[:64],
            "bundle": entry.bundle,
            "predictor": entry.predictor[:200],
            "input_hash": entry.input_hash,
            "rows": entry.rows,
        }
        try:
            with self.engine.begin() as connection:
                connection.execute(AUDIT.insert(), line)
        except SQLAlchemyError as problem:
            raise failed(
                "written", problem, "Nothing is shown that is not recorded. Tell whoever runs this server."
            ) from None

    @contextmanager
    def recorded(self, entry: Entry) -> Iterator[Taken]:
        """Writes "started", and how the block ended. The result may be shown only after the block was left.

        An error that is meant for a reader is "refused" with its kind, every other one "failed"; both go on.
        """
        entry = replace(entry, event=uuid.uuid4().hex)
        self.write(entry, STARTED)
        taken = Taken()
        try:
            yield taken
        except BaseException as error:
            outcome = REFUSED if isinstance(error, OsmlError) else FAILED
            self.write(replace(entry, rows=taken.rows), outcome, type(error).__name__)
            raise
        entry = replace(entry, rows=taken.rows)
        self.write(entry, REFUSED if taken.refused else OK, taken.refused)


@lru_cache(maxsize=8)
def open_log(url: str) -> AuditLog:
    """Open a log for writing; it is made when there is none.

    Raises
    ------
    AuditError
        It cannot be made, or others may read its key.
    """
    engine = opened(url)
    return AuditLog(engine, key_of(url))


def read_log(url: str, last: int | None = None) -> list[tuple[Any, ...]]:
    """Lines of a log in their order, `HEADER` being their names.

    last : so many of the newest; None: all
    """
    query = sa.select(AUDIT).order_by(AUDIT.c.id.desc())
    query = query if last is None else query.limit(last)
    try:
        with existing(url).connect() as connection:
            return [tuple(row) for row in connection.execute(query)][::-1]
    except SQLAlchemyError as error:
        raise failed("read", error, "Give the URL that `osml app` prints.") from None


def log_csv(rows: Sequence[Sequence[Any]]) -> str:
    """Lines as CSV; cells that a spreadsheet would run are neutralised."""
    return csv_text(HEADER, rows)


def show_log(place: str | None, out: Path | None, last: int, say: Any) -> None:
    """The command `osml audit`: the newest lines on the terminal, or all lines as a CSV."""
    from osml.files import atomic_write

    url = place or default_url()
    if out is not None:
        rows = read_log(url)
        atomic_write(out, log_csv(rows))
        say(f"wrote {len(rows)} lines to {out}")
        return
    rows = read_log(url, last)
    say(f"audit     {shown_url(url)}: the last {len(rows)} lines")
    names = ("time_utc", "user", "session", "action", "outcome", "error", "predictor", "bundle", "rows")
    for row in rows:
        line = dict(zip(HEADER, row, strict=True))
        line |= {"time_utc": line["time_utc"][:19], "bundle": line["bundle"][:12], "session": line["session"][:8]}
        say("  ".join("-" if line[name] in ("", None) else str(line[name]) for name in names))


def _one_line(text: str, longest: int) -> str:
    """A name as one line of printable characters."""
    return "".join(c if c.isprintable() else " " for c in text).strip()[:longest]


__all__ = [
    "ANONYMOUS", "FAILED", "HEADER", "OK", "REFUSED", "STARTED", "Action", "AuditError", "AuditLog", "Entry", "Taken",
    "default_url", "log_csv", "open_log", "read_log", "show_log", "shown_url",
]  # fmt: skip
