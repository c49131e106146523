"""Settings of the app: file and options, what is refused before anything starts, and what the server is told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from served import serve

from osml.errors import MissingExtraError, OsmlError, RunError, SchemaError
from osml.serving.launch import (
    AUDIT_VARIABLE,
    REGISTRY_VARIABLE,
    RUN_VARIABLE,
    SLIDES_VARIABLE,
    WORKSPACE_VARIABLE,
    app_command,
    app_environment,
    button_style,
)
from osml.serving.settings import AppSettings, read_settings, refuse_unsafe

PROVIDER = """
[auth]
redirect_uri = "https://osml.example.org/oauth2callback"
cookie_secret = "0123456789abcdef0123456789abcdef"
client_id = "osml"
client_secret = "secret"
server_metadata_url = "https://login.example.org/.well-known/openid-configuration"
"""


def written(folder: Path, text: str, name: str = "app.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_is_read_and_options_win(tmp_path: Path) -> None:
    text = "run: models\nport: 8600\nupload_mb: 300\nslides: /srv/slides\nopen_to_network: true\nauth: required\n"
    settings = read_settings(written(tmp_path, text), {"port": 9000, "address": None})
    assert (settings.port, settings.upload_mb, settings.auth) == (9000, 300, "required")
    assert settings.run == str(tmp_path / "models")  # relative to the file, not to where the command is run
    assert settings.slides == "/srv/slides"
    assert settings.open_to_network is True
    assert settings.address == "127.0.0.1"
    assert read_settings(written(tmp_path, "# nothing yet\n"), {}) == AppSettings()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("run: a\nprot: 1\n", r"app\.yaml:2: prot: unknown key 'prot'(.|\n)*Did you mean 'port'"),
        ("port: x\n", r"app\.yaml:1: port: "),
        ("port: 70000\n", r"app\.yaml:1: port: .*65535"),
        ("port: 80\nport: 81\n", r"app\.yaml:2|app\.yaml:1: port: key 'port' is written twice"),
        ("auth: maybe\n", r"app\.yaml:1: auth: "),
        ("url: javascript:alert(1)\n", r"app\.yaml:1: url: must be an address"),
        ("url: https://user@host\n", r"app\.yaml:1: url: must be an address"),
        ("open_to_network: 1\n", r"app\.yaml:1: open_to_network: "),
        ("run: !!python/object:os.system x\n", "tag .* is not allowed"),
        ("[a, b]\n", "top level must be"),
        ("a: [\n", "not valid YAML"),
    ],
)
def test_a_bad_file_says_line_and_key(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SchemaError, match=words):
        read_settings(written(tmp_path, text), {})


def test_no_file_and_no_text(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="no settings at"):
        read_settings(tmp_path / "app.yaml", {})
    (tmp_path / "app.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SchemaError, match="not UTF-8"):
        read_settings(tmp_path / "app.yaml", {})


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.168.1.5", "example.org", "169.254.1.1"])
def test_the_network_is_shut_unless_somebody_says_otherwise(address: str) -> None:
    with pytest.raises(OsmlError, match=r"without a login(.|\n)*open_to_network"):
        refuse_unsafe(AppSettings(address=address), [])
    refuse_unsafe(AppSettings(address=address, open_to_network=True), [])


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost", "::1", "[::1]", "127.1.2.3"])
def test_this_machine_needs_no_login(address: str) -> None:
    settings = AppSettings(address=address)
    assert (settings.auth, settings.open_to_network) == ("none", False)
    refuse_unsafe(settings, [])  # raises nothing


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "no provider of logins is configured"),
        ("[other]\nx = 1\n", "There is no \\[auth\\]"),
        ("auth = 3\n", "There is no \\[auth\\]"),
        (PROVIDER.replace("client_secret", "clientsecret"), "lacks client_secret"),
        (PROVIDER.replace("0123456789abcdef0123456789abcdef", "short"), "shorter than 32"),
        ("[auth\n", "is not TOML"),
    ],
)
def test_required_logins_without_a_provider_refuse_to_start(tmp_path: Path, text: str | None, words: str) -> None:
    secrets = tmp_path / "secrets.toml" if text is None else written(tmp_path, text, "secrets.toml")
    for address in ("127.0.0.1", "0.0.0.0"):
        with pytest.raises(OsmlError, match=words):
            refuse_unsafe(AppSettings(auth="required", address=address), [secrets])


def test_required_logins_with_a_provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = written(tmp_path, PROVIDER, "secrets.toml")
    monkeypatch.setattr("osml.serving.settings.find_spec", lambda name: object())
    refuse_unsafe(AppSettings(auth="required", address="0.0.0.0"), [secrets])
    monkeypatch.setattr("osml.serving.settings.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"osml\[login\]"):
        refuse_unsafe(AppSettings(auth="required"), [secrets])


def test_browsers_are_answered_under_known_names_only() -> None:
    def hosts(**options: str) -> list[str]:
        command = app_command(Path("main.py"), port=1, **options)  # type: ignore[arg-type]
        return [option.partition("=")[2] for option in command if option.startswith("--server.allowedHosts=")]

    assert hosts() == ["localhost", "127.0.0.1", "::1"]
    assert hosts(url="https://osml.example.org")[-1] == "osml.example.org"
    assert hosts(address="10.0.0.7")[-1] == "10.0.0.7"
    assert hosts(address="0.0.0.0") == []
    assert "--server.corsAllowedOrigins=https://a.b" in app_command(Path("main.py"), port=1, url="https://a.b")
    assert "--server.maxUploadSize=7" in app_command(Path("main.py"), port=1, upload_mb=7)


def contrast(one: str, other: str) -> float:
    """Of two colours, as WCAG 2.1 reckons it."""

    def light(colour: str) -> float:
        parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


def test_buttons_links_and_pills_are_legible_by_day_and_by_night() -> None:
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    options = dict(option[2:].split("=", 1) for option in app_command(Path("main.py"), port=1) if "=" in option)
    for theme, ground, default in (("light", "#ffffff", "#ffffff"), ("dark", "#0e1117", "#ffffff")):
        primary = options[f"theme.{theme}.primaryColor"]
        found = re.search(r"color: light-dark\((#\w{6}), (#\w{6})\)", button_style())
        text = found[1 if theme == "light" else 2] if found else default
        assert contrast(text, primary) >= 4.5, theme
        hovered = re.search(r"background-color: light-dark\((#\w{6}), (#\w{6})\)", button_style())
        assert hovered is not None
        assert contrast(text, hovered[1 if theme == "light" else 2]) >= 4.5, theme
        assert contrast(primary, ground) >= 4.5, theme
        assert contrast(options[f"theme.{theme}.linkColor"], ground) >= 4.5, theme


def test_what_the_app_is_told(tmp_path: Path) -> None:
    run = serve(tmp_path / "study")
    (tmp_path / "slides").mkdir()
    log = tmp_path / "log" / "audit.sqlite"
    settings = AppSettings(
        run=str(run), slides=str(tmp_path / "slides"), train=str(tmp_path / "work"), registry=str(tmp_path / "models"),
        audit=str(log),
    )  # fmt: skip
    told = app_environment(settings)
    assert told[RUN_VARIABLE] == str(run.resolve())
    assert told[SLIDES_VARIABLE] == str(tmp_path / "slides")
    assert told[WORKSPACE_VARIABLE] == str(tmp_path / "work")
    assert told[REGISTRY_VARIABLE] == str(tmp_path / "models")
    assert told[AUDIT_VARIABLE] == str(log)
    assert (tmp_path / "work").is_dir()
    assert log.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "log" / "audit.sqlite.key").stat().st_mode & 0o777 == 0o600
    with pytest.raises(OsmlError, match=r"`slides: .*` is no folder"):
        app_environment(AppSettings(run=str(run), slides=str(tmp_path / "none"), audit="none"))
    with pytest.raises(OsmlError, match=r"audit log .* cannot be written"):
        app_environment(AppSettings(run=str(run), audit="/proc/nowhere/audit.sqlite"))


def test_an_app_without_any_model_starts_only_where_models_are_made(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"neither a bundle|holds no finished run"):
        app_environment(AppSettings(run=str(tmp_path / "runs"), audit="none"))
    told = app_environment(AppSettings(run=str(tmp_path / "runs"), train=str(tmp_path / "work"), audit="none"))
    assert told[AUDIT_VARIABLE] == "none"
