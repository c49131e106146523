"""The files of docs/deployment.md do what the page says: settings are read, nginx and systemd take theirs."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
import tomllib
from pathlib import Path

import pytest
from helpers import ROOT
from raw_visitor import Visitor, osml_app, request
from served import patients, serve

from osml.serving.settings import read_settings, refuse_unsafe

PAGE = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)
    assert found
    return found.group(1)


def test_the_settings_are_read(tmp_path: Path) -> None:
    (tmp_path / "app.yaml").write_text(block("yaml"), encoding="utf-8")
    settings = read_settings(tmp_path / "app.yaml", {})
    assert settings.auth == "required"
    assert settings.url == "https://osml.example.org"
    secrets = tomllib.loads(block("toml"))
    (tmp_path / "secrets.toml").write_text(block("toml").replace("…", "0123456789abcdef" * 3), encoding="utf-8")
    assert secrets["auth"]["redirect_uri"] == f"{settings.url}/oauth2callback"
    refuse_unsafe(settings, [tmp_path / "secrets.toml"])
    limit = re.search(r"client_max_body_size (\d+)m", block("nginx"))
    assert limit
    assert int(limit.group(1)) > settings.upload_mb


def test_every_test_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"`(tests/[\w/]+\.py)`", PAGE))
    assert len(named) > 6
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / "osml.service"
    unit.write_text(block("ini").replace("/opt/osml/bin/osml", "/bin/true"), encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if "osml.service" in line]) == (0, [])


def nginx_of(folder: Path, text: str) -> list[str | Path]:
    """A command for nginx as this user with one configuration in a folder of its own."""
    if shutil.which("nginx") is None:
        pytest.skip("nginx is not installed")
    (folder / "osml.conf").write_text(text, encoding="utf-8")
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {temporary} include {folder}/osml.conf; }}\n",
        encoding="utf-8",
    )
    return [str(shutil.which("nginx")), "-c", folder / "nginx.conf", "-p", folder]


def test_nginx_takes_the_configuration(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=osml.example.org",
         "-keyout", tmp_path / "key.pem", "-out", tmp_path / "fullchain.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    command = nginx_of(tmp_path, block("nginx").replace("/etc/ssl/osml", str(tmp_path)))
    done = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert "syntax is ok" in done.stderr, done.stderr
    assert done.returncode == 0, done.stderr


@pytest.mark.full
def test_a_visitor_predicts_through_the_proxy(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        front = probe.getsockname()[1]
    run = serve(tmp_path / "study")
    with osml_app(run, "--url", "https://osml.example.org", home=tmp_path) as (port, _):
        text = block("nginx").replace("127.0.0.1:8501", f"127.0.0.1:{port}")
        text = re.sub(r"\n +ssl_.*", "", text).replace("listen 443 ssl", f"listen 127.0.0.1:{front}")
        text = text.replace("listen 80;", f"listen 127.0.0.1:{front};\n    server_name unused;", 1)
        text = text.replace("    server_name osml.example.org;\n", "", 1).replace("210m", "1m")
        (tmp_path / "proxy").mkdir()
        with subprocess.Popen(nginx_of(tmp_path / "proxy", text), stderr=subprocess.DEVNULL) as process:
            try:
                for _ in range(100):
                    try:
                        if request(front, "GET", "/_stcore/health", headers={"Host": "osml.example.org"}).status == 200:
                            break
                    except OSError:
                        time.sleep(0.1)
                with Visitor(front, host="osml.example.org", origin="https://osml.example.org") as visitor:
                    visitor.choose("Patients", "A table")
                    visitor.run()
                    rows = [row | {"marker": row["marker"] or "3"} for row in patients()[:3]]
                    raw = "\n".join([",".join(rows[0]), *(",".join(row.values()) for row in rows)]).encode()
                    assert visitor.send_file("Table of patients", raw, "new.csv") == 204
                    visitor.run()
                    assert "3 of 3 rows predicted" in visitor.words()
                    assert visitor.send_file("Table of patients", b"," * (2 * 2**20), "new.csv") == 413
            finally:
                process.terminate()
