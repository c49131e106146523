"""Start the app: Streamlit in a process of its own, bound to this machine, without telemetry or tracebacks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import osml
from osml.errors import OsmlError, RunError, missing_extra
from osml.serving.loading import find_bundles
from osml.serving.settings import NO_AUDIT, AppSettings, refuse_unsafe

RUN_VARIABLE = "OSML_APP_RUN"
TRUST_VARIABLE = "OSML_APP_TRUST"
SLIDES_VARIABLE = "OSML_APP_SLIDES"
WORKSPACE_VARIABLE = "OSML_APP_WORKSPACE"
REGISTRY_VARIABLE = "OSML_APP_REGISTRY"
AUDIT_VARIABLE = "OSML_APP_AUDIT"
AUTH_VARIABLE = "OSML_APP_AUTH"
HOURS_VARIABLE = "OSML_APP_LOGIN_HOURS"
UPLOAD_MB = 200
# Streamlit's red on white has a contrast of 3.3; these have 4.5 or more on their grounds. Its buttons would be white on
# the dark theme's primary colour (3.1), so their text is dark there: see `button_style`.
PRIMARY = {"light": "#005a9c", "dark": "#3f97e3"}
ON_PRIMARY = {"light": "#ffffff", "dark": "#0e1117"}
# Under the pointer Streamlit darkens buttons, which dark text would not survive.
HOVERED = {"light": "#00436f", "dark": "#74b5ee"}
_LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


def app_script() -> Path:
    """`main.py` of the app: inside an installed package, or beside it in a working copy.

    Raises
    ------
    MissingExtraError
        Streamlit is not installed.
    """
    if find_spec("streamlit") is None:
        raise missing_extra("streamlit", "app", "the app")
    package = Path(osml.__file__).parent
    for script in (package / "apps" / "main.py", package.parent / "apps" / "main.py"):
        if script.is_file():
            return script
    raise RunError(f"the app's pages are not beside {package}", do="Install osml again.")


def app_command(
    script: Path,
    *,
    port: int,
    address: str = "127.0.0.1",
    browser: bool = True,
    upload_mb: int = UPLOAD_MB,
    url: str | None = None,
) -> list[str]:
    """Command line of the app's server.

    url : address that visitors type, where a proxy stands before the app
    """
    settings = {
        "server.address": address,
        "server.port": str(port),
        "server.headless": str(not browser).lower(),
        "server.maxUploadSize": str(upload_mb),
        "server.enableXsrfProtection": "true",
        "server.enableCORS": "true",
        "server.enableStaticServing": "false",
        "server.enableAgentApi": "false",
        "server.fileWatcherType": "none",
        "server.showEmailPrompt": "false",
        "browser.gatherUsageStats": "false",
        "client.showErrorDetails": "none",
        "client.toolbarMode": "minimal",
        "theme.light.primaryColor": PRIMARY["light"],
        "theme.light.linkColor": "#005a9c",
        "theme.dark.primaryColor": PRIMARY["dark"],
        "theme.dark.linkColor": "#7fc4ff",
    }
    options = [f"--{key}={value}" for key, value in settings.items()]
    options += [f"--theme.headingFontSizes={size}" for size in ("2rem", "1.5rem", "1.75rem")]  # h3 holds the risk
    # Under another name no browser is answered: a page of somebody else could point its own name at this machine.
    options += [f"--server.allowedHosts={name}" for name in _hosts(address, url)]
    if url is not None:
        options.append(f"--server.corsAllowedOrigins={url}")
    options += [f"--secrets.files={path}" for path in secret_files()]
    return [sys.executable, "-m", "streamlit", "run", str(script), *options]


def button_style() -> str:
    """CSS that sets the text of primary buttons in a colour that is legible on them, by day and by night."""
    text, hovered = (f"light-dark({found['light']}, {found['dark']})" for found in (ON_PRIMARY, HOVERED))
    button = 'button[data-testid^="stBaseButton-primary"]:enabled'
    touched = f"{button}:is(:hover, :active, :focus-visible)"
    return f"<style>{button} {{color: {text}}} {touched} {{color: {text}; background-color: {hovered}}}</style>"


def _hosts(address: str, url: str | None) -> list[str]:
    """Names under which browsers may ask for the app; none stands for all, where any address of the machine serves."""
    public = [urlsplit(url).hostname or ""] if url is not None else []
    if address in ("0.0.0.0", "::") and not public:
        return []
    return list(dict.fromkeys([*_LOCAL_NAMES, *([] if address in ("0.0.0.0", "::") else [address]), *public]))


def serve_app(
    settings: AppSettings, *, browser: bool = True, trust: bool = False, say: Callable[[str], None] = print
) -> int:
    """Serve the app until it is stopped; returns the exit code.

    Parameters
    ----------
    trust : whether files that run code may be read, of every bundle that the app shows

    Raises
    ------
    OsmlError
        Settings that cannot go together, nothing to serve, or an audit log that cannot be written. Nothing was started.
    """
    script = app_script()
    refuse_unsafe(settings, secret_files())
    environment = os.environ | app_environment(settings, trust=trust)
    if settings.open_to_network and not settings.loopback and settings.auth == "none":
        say(f"WARNING   everybody who reaches {settings.address} can use the app; nobody logs in, nothing is encrypted")
    say(f"audit     {_audit_words(environment[AUDIT_VARIABLE])}")
    command = app_command(
        script, port=settings.port, address=settings.address, browser=browser, upload_mb=settings.upload_mb,
        url=settings.url,
    )  # fmt: skip
    with subprocess.Popen(command, env=environment) as process:
        # A service manager ends this process; the server must not live on alone.
        signal.signal(signal.SIGTERM, lambda number, frame: process.terminate())
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.terminate()
            code = process.wait()
    return 0 if code == -signal.SIGTERM else code


def app_environment(settings: AppSettings, *, trust: bool = False) -> dict[str, str]:
    """What the app's process is told; every folder is looked at and the audit log opened before it starts."""
    from osml.serving.audit import default_url, open_log

    audit = settings.audit or default_url()
    if audit != NO_AUDIT:
        open_log(audit)
    run = Path(settings.run)
    try:
        find_bundles(run)
    except RunError:
        # There is nothing yet, but models will be made or published here.
        if settings.train is None and settings.registry is None:
            raise
    return {
        RUN_VARIABLE: str(run.resolve()),
        TRUST_VARIABLE: "yes" if trust else "",
        SLIDES_VARIABLE: _folder("slides", settings.slides),
        WORKSPACE_VARIABLE: _folder("train", settings.train, make=True),
        REGISTRY_VARIABLE: _folder("registry", settings.registry, make=True),
        AUDIT_VARIABLE: audit,
        AUTH_VARIABLE: settings.auth,
        HOURS_VARIABLE: str(settings.login_hours),
    }


def _folder(key: str, path: str | None, *, make: bool = False) -> str:
    if path is None:
        return ""
    folder = Path(path)
    if make:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OsmlError(f"`{key}: {path}` cannot be made: {error.strerror}") from None
    if not folder.is_dir():
        raise OsmlError(f"`{key}: {path}` is no folder", do="Make it, or leave the setting out.")
    return str(folder.resolve())


def secret_files() -> list[Path]:
    """Where Streamlit looks for secrets: the user's home, then the folder in which the app is started."""
    return [folder / ".streamlit" / "secrets.toml" for folder in (Path.home(), Path.cwd())]


def _audit_words(url: str) -> str:
    if url == NO_AUDIT:
        return "off: no prediction is recorded"
    from osml.serving.audit import shown_url

    return shown_url(url)
