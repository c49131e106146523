"""Start the app: Streamlit in a process of its own, bound to this machine, without telemetry or tracebacks."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import osml
from osml.errors import RunError, missing_extra
from osml.serving.loading import find_bundles

RUN_VARIABLE = "OSML_APP_RUN"
TRUST_VARIABLE = "OSML_APP_TRUST"
UPLOAD_MB = 200


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


def app_command(script: Path, *, port: int, address: str = "127.0.0.1", browser: bool = True) -> list[str]:
    """Command line of the app's server."""
    settings = {
        "server.address": address,
        "server.port": str(port),
        "server.headless": str(not browser).lower(),
        "server.maxUploadSize": str(UPLOAD_MB),
        "server.enableXsrfProtection": "true",
        "server.enableCORS": "true",
        "server.enableStaticServing": "false",
        "server.enableAgentApi": "false",
        "server.fileWatcherType": "none",
        "server.showEmailPrompt": "false",
        "browser.gatherUsageStats": "false",
        "client.showErrorDetails": "none",
        "client.toolbarMode": "minimal",
        # Streamlit's red on white has a contrast of 3.3; these have 4.5 or more on their grounds.
        "theme.light.primaryColor": "#005a9c",
        "theme.light.linkColor": "#005a9c",
        "theme.dark.primaryColor": "#3f97e3",
        "theme.dark.linkColor": "#7fc4ff",
    }
    options = [f"--{key}={value}" for key, value in settings.items()]
    options += [f"--theme.headingFontSizes={size}" for size in ("2rem", "1.5rem", "1.75rem")]  # h3 holds the risk
    return [sys.executable, "-m", "streamlit", "run", str(script), *options]


def serve_app(run: Path, *, port: int = 8501, browser: bool = True, trust: bool = False) -> int:
    """Serve the app for a run, a bundle or a folder of runs until it is stopped; returns the exit code.

    trust : whether files that run code may be read, of every bundle that the app shows
    """
    script = app_script()
    find_bundles(run)
    environment = os.environ | {RUN_VARIABLE: str(run.resolve()), TRUST_VARIABLE: "yes" if trust else ""}
    with subprocess.Popen(app_command(script, port=port, browser=browser), env=environment) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.terminate()
            return process.wait()
