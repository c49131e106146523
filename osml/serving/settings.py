"""Settings of the app: a YAML file, options of `osml app` that override it, and what of them cannot go together."""

from __future__ import annotations

import ipaddress
import tomllib
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator

from osml.errors import OsmlError, SchemaError, missing_extra
from osml.schema.document import Document, Problem, read_document
from osml.schema.fields import Block
from osml.schema.suggest import hint

NO_AUDIT = "none"
_SEE = "See docs/deployment.md for what stands in it."


class AppSettings(Block):
    """Every key of the settings file; all are optional. Paths are relative to the file."""

    run: str = Field("runs", min_length=1, description="run, study's folder, bundle, or folder of runs")
    address: str = Field("127.0.0.1", min_length=1, description="address on which the app listens")
    port: int = Field(8501, ge=1, le=65535, strict=True)
    url: str | None = Field(None, description="address that visitors type, where a proxy stands before the app")
    upload_mb: int = Field(200, ge=1, le=4096, strict=True, description="largest file that a visitor can send")
    slides: str | None = Field(None, min_length=1, description="folder below which slides may be named by path")
    train: str | None = Field(None, min_length=1, description="workspace of the page Train; none: no such page")
    registry: str | None = Field(None, min_length=1, description="folder of published bundles")
    audit: str | None = Field(None, min_length=1, description="SQLAlchemy URL, or none; default: SQLite, state folder")
    auth: Literal["none", "required"] = Field("none", description="whether visitors have to log in (OIDC)")
    login_hours: int = Field(12, ge=1, le=720, strict=True, description="hours after which one logs in again")
    open_to_network: bool = Field(False, strict=True, description="listen beyond this machine although nobody logs in")

    @field_validator("url")
    @classmethod
    def _web_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise ValueError("must be an address like https://osml.example.org")
        return value.rstrip("/")

    @field_validator("open_to_network", mode="before")
    @classmethod
    def _plain_bool(cls, value: Any) -> Any:
        # YAML's true and false arrive with their spelling.
        return bool(value) if getattr(value, "text", "") in ("true", "false") else value

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the app."""
        if self.address == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.address.strip("[]")).is_loopback
        except ValueError:
            return False


def read_settings(path: Path | None, options: Mapping[str, Any]) -> AppSettings:
    """Settings from a file, if there is one, and from the options that were given (not None), which win.

    Raises
    ------
    SchemaError
        The file is not YAML, or has unknown keys or wrong values; each with file:line.
    """
    given = {key: value for key, value in options.items() if value is not None}
    document = Document("options", {})
    if path is not None:
        document = _document(path)
        for key in ("run", "slides", "train", "registry"):
            if isinstance(document.data.get(key), str):
                document.data[key] = str(path.resolve().parent / document.data[key])
    for key in given:
        document.replaced((key,), f"--{key.replace('_', '-')}")
    problems = list(document.problems)
    try:
        settings = AppSettings.model_validate(document.data | given)
    except ValidationError as error:
        raise document.fail([*problems, *_problems(error)]) from None
    if problems:
        raise document.fail(problems)
    return settings


def _document(path: Path) -> Document:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise SchemaError(f"no settings at {path}") from None
    except (IsADirectoryError, PermissionError) as error:
        raise SchemaError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SchemaError(f"{path}: not UTF-8 at byte {error.start}", do="Save the file as UTF-8.") from None
    if not any(line.strip() and not line.lstrip().startswith("#") for line in text.splitlines()):
        return Document(path.name, {})
    return read_document(text, path.name)


def _problems(error: ValidationError) -> list[Problem]:
    found = []
    for item in error.errors():
        place, kind = tuple(item["loc"]), item["type"]
        name = str(place[0]) if place else ""
        if kind == "extra_forbidden":
            words = f"unknown key {name!r}; unknown keys are never ignored"
            found.append(Problem(place, words, hint(name, list(AppSettings.model_fields))))
        elif kind == "value_error":
            found.append(Problem(place, str(item.get("ctx", {}).get("error", item["msg"]))))
        else:
            found.append(Problem(place, item["msg"][:1].lower() + item["msg"][1:]))
    return found


def refuse_unsafe(settings: AppSettings, secrets: Sequence[Path]) -> None:
    """Refuse settings under which strangers could see patients.

    Beyond this machine the app is reached only by people who logged in: a warning scrolls by, and what a form holds is
    somebody's health. Whoever has another guard says so by `open_to_network`.

    Parameters
    ----------
    secrets : files in which Streamlit looks for the provider of logins, later ones over earlier ones

    Raises
    ------
    OsmlError, MissingExtraError
    """
    if settings.auth == "required":
        _provider(secrets)
        if find_spec("authlib") is None or find_spec("httpx") is None:
            raise missing_extra("Authlib", "login", "logging in")
    elif not settings.loopback and not settings.open_to_network:
        raise OsmlError(
            f"the app would listen on {settings.address}, where everybody in the network can reach it without a login",
            why="What visitors enter are patients' data, and nothing would be known of who asked.",
            do="Keep 127.0.0.1 and put a proxy before it (docs/deployment.md), or set `auth: required`; "
            "`open_to_network: true` (--open-to-network) starts it all the same.",
        )


def _provider(secrets: Sequence[Path]) -> None:
    """That secrets.toml names an OIDC provider with all that Streamlit needs of it."""
    shown = " or ".join(map(str, secrets))
    blocks: dict[str, Any] = {}
    for path in secrets:
        if path.is_file():
            try:
                blocks |= tomllib.loads(path.read_text(encoding="utf-8"))
            except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
                raise OsmlError(f"{path} is not TOML: {error}", do=_SEE) from None
    auth = blocks.get("auth")
    if not isinstance(auth, dict):
        raise OsmlError(
            "`auth: required`, but no provider of logins is configured",
            why=f"There is no [auth] in {shown}.",
            do="Write one (docs/deployment.md), or set `auth: none`. The app was not started.",
        )
    needed = ("client_id", "client_secret", "server_metadata_url")
    # Without a name of its own the provider stands in [auth] itself; the app logs in by that one.
    lacking = [key for key in ("redirect_uri", "cookie_secret", *needed) if not str(auth.get(key) or "").strip()]
    if lacking:
        raise OsmlError(
            f"`auth: required`, but [auth] in {shown} lacks {', '.join(lacking)}",
            do=f"{_SEE} The app was not started.",
        )
    if len(str(auth["cookie_secret"])) < 32:
        raise OsmlError(
            "the cookie_secret in secrets.toml is shorter than 32 characters",
            why="Whoever guesses it logs in as anybody.",
            do="Make one: python -c 'import secrets; print(secrets.token_urlsafe(32))'",
        )
