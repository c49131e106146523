"""The database beside the app: the audit log and counts of what was predicted. SQLite, or what a URL names.

Reached only where a log is written or read, because it imports SQLAlchemy.
"""

from __future__ import annotations

import os
import secrets
import stat
from functools import lru_cache
from pathlib import Path
from typing import Any

from osml.errors import OsmlError, missing_extra

try:
    import sqlalchemy as sa
    from sqlalchemy import event
    from sqlalchemy.engine import URL, Engine, make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
except ImportError as error:
    raise missing_extra("SQLAlchemy", "app", "the audit log") from error

WAIT_SECONDS = 30
METADATA = sa.MetaData()
AUDIT = sa.Table(
    "osml_audit",
    METADATA,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
    sa.Column("time_utc", sa.String(32), nullable=False),
    sa.Column("event", sa.String(32), nullable=False),
    sa.Column("user", sa.String(200), nullable=False),
    sa.Column("session", sa.String(32), nullable=False),
    sa.Column("action", sa.String(32), nullable=False),
    sa.Column("outcome", sa.String(16), nullable=False),
    sa.Column("error", sa.String(64), nullable=False),
    sa.Column("bundle", sa.String(64), nullable=False),
    sa.Column("predictor", sa.String(200), nullable=False),
    sa.Column("input_hash", sa.String(64), nullable=False),
    sa.Column("rows", sa.Integer()),
)
COUNTS = sa.Table(
    "osml_counts",
    METADATA,
    sa.Column("month", sa.String(7), primary_key=True),
    sa.Column("bundle", sa.String(64), primary_key=True),
    sa.Column("predictor", sa.String(200), primary_key=True),
    sa.Column("variable", sa.String(200), primary_key=True),
    sa.Column("cell", sa.String(64), primary_key=True),
    sa.Column("n", sa.BigInteger(), nullable=False),
)
_SQLITE = (
    "CREATE TRIGGER osml_audit_no_{0} BEFORE {0} ON osml_audit "
    "BEGIN SELECT RAISE(ABORT, 'osml_audit is append-only'); END"
)
_POSTGRES = (
    "CREATE OR REPLACE FUNCTION osml_audit_refuse() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION 'osml_audit is append-only'; END $$",
    "CREATE TRIGGER osml_audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON osml_audit "
    "FOR EACH STATEMENT EXECUTE FUNCTION osml_audit_refuse()",
)
for _verb in ("UPDATE", "DELETE"):
    event.listen(AUDIT, "after_create", sa.DDL(_SQLITE.format(_verb)).execute_if(dialect="sqlite"))
for _text in _POSTGRES:
    event.listen(AUDIT, "after_create", sa.DDL(_text).execute_if(dialect="postgresql"))


class AuditError(OsmlError):
    """The audit log cannot be opened, read or written."""


def failed(doing: str, error: Exception, do: str) -> AuditError:
    """Words for what a database said: its kind and first line, never the statement and the values in it."""
    inner = getattr(error, "orig", None) or error
    first = next(iter(str(inner).strip().splitlines()), "")
    return AuditError(f"the audit log cannot be {doing}: {type(inner).__name__}: {first}"[:300], do=do)


def state_folder() -> Path:
    """Where a service or a user keeps state: $STATE_DIRECTORY (systemd), else $XDG_STATE_HOME/osml."""
    service = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    if service:
        return Path(service)
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "osml"


def default_url() -> str:
    """SQLite in the state folder."""
    return URL.create("sqlite", database=str(state_folder() / "audit.sqlite")).render_as_string()


def parsed(url: str) -> URL:
    """A URL, or a path of a SQLite file."""
    try:
        found = make_url(url) if "://" in url else URL.create("sqlite", database=url)
        dialect = found.get_dialect().name
    except (ArgumentError, NoSuchModuleError) as error:
        raise AuditError(
            f"the audit log's URL is none that SQLAlchemy reads: {type(error).__name__}",
            do="Like sqlite:////var/lib/osml/audit.sqlite or postgresql+psycopg://user@host/database.",
        ) from None
    except ImportError as error:
        raise AuditError(
            f"the audit log's URL needs {error.name}, which is not installed",
            do="Install it; for PostgreSQL: pip install 'psycopg[binary]'.",
        ) from None
    if dialect == "sqlite" and found.database in (None, "", ":memory:"):
        raise AuditError("an audit log in memory is none: it is gone with the app", do="Name a file.")
    return found


def shown_url(url: str) -> str:
    """The URL without its password."""
    return parsed(url).render_as_string(hide_password=True)


@lru_cache(maxsize=8)
def opened(url: str) -> Engine:
    """The engine of a log that is written; its tables are made when they are not there.

    Raises
    ------
    AuditError
        The URL is wrong, the database does not answer or has other tables of that name.
    """
    found = parsed(url)
    if found.drivername.startswith("sqlite"):
        _private_file(Path(str(found.database)))
    engine = _engine(found)
    try:
        METADATA.create_all(engine)
        _same_columns(engine)
    except SQLAlchemyError as error:
        raise failed("opened", error, "Correct `audit:`, or turn it off by `audit: none`.") from None
    return engine


def existing(url: str) -> Engine:
    """The engine of a log that is only read; nothing is made."""
    found = parsed(url)
    if found.drivername.startswith("sqlite") and not Path(str(found.database)).is_file():
        raise AuditError(f"there is no audit log at {found.database}")
    engine = _engine(found)
    try:
        _same_columns(engine)
    except SQLAlchemyError as error:
        raise failed("read", error, "Give the URL that `osml app` prints.") from None
    return engine


def key_of(url: str) -> bytes:
    """The secret under which inputs are hashed: beside a SQLite file, else in the state folder; made at first use."""
    found = parsed(url)
    lite = found.drivername.startswith("sqlite")
    path = Path(f"{found.database}.key") if lite else state_folder() / "audit.key"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            pass
        else:
            with os.fdopen(handle, "w") as stream:
                stream.write(secrets.token_hex(32))
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise AuditError(
                f"others may read the key of the audit log, {path}",
                why="With it, inputs can be guessed from their hashes.",
                do=f"chmod 600 {path}",
            )
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except OSError as error:
        raise AuditError(f"the key of the audit log, {path}, cannot be used: {error.strerror}") from None
    except ValueError:
        raise AuditError(f"the key of the audit log, {path}, is damaged", do="Restore it from the backup.") from None
    if len(key) < 32:
        raise AuditError(f"the key of the audit log, {path}, is damaged", do="Restore it from the backup.")
    return key


def _engine(url: URL) -> Engine:
    lite = url.drivername.startswith("sqlite")
    engine = sa.create_engine(
        url,
        connect_args={"timeout": WAIT_SECONDS} if lite else {},
        pool_pre_ping=not lite,
        pool_size=5,
        max_overflow=15,
        pool_timeout=WAIT_SECONDS,
        hide_parameters=True,
    )
    if lite:
        event.listen(engine, "connect", _write_ahead)
    return engine


def _write_ahead(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")  # what was answered has been written, also when the power fails
    cursor.close()


def _same_columns(engine: Engine) -> None:
    look = sa.inspect(engine)
    for table in (AUDIT, COUNTS):
        if not look.has_table(table.name):
            raise AuditError(f"the database has no table {table.name}: it is no audit log of osml")
        there = {column["name"] for column in look.get_columns(table.name)}
        if there != set(table.columns.keys()):
            raise AuditError(f"the table {table.name} has other columns than this osml writes", do="Update osml.")


def _private_file(path: Path) -> None:
    """The file of the log, readable by its owner only from the first moment."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    except OSError as error:
        raise AuditError(
            f"the audit log {path} cannot be written: {error.strerror}",
            do="Name another place by `audit:`, or turn it off by `audit: none`.",
        ) from None
