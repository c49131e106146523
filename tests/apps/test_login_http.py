"""Logging in over the wire: `osml app --auth required` and a provider of OpenID Connect that is made for the test."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from raw_visitor import Visitor, osml_app, request
from served import serve

from osml.serving.audit import HEADER, read_log

pytestmark = pytest.mark.full
pytest.importorskip("authlib")


class Provider(ThreadingHTTPServer):
    """Lets everybody in as Ada; signs with a key of its own."""

    def __init__(self) -> None:
        from joserfc.jwk import RSAKey

        super().__init__(("127.0.0.1", 0), Answers)
        self.key = RSAKey.generate_key(2048, parameters={"kid": "one"})
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.nonce = ""


class Answers(BaseHTTPRequestHandler):
    server: Provider

    def do_GET(self) -> None:
        url = self.server.url
        if self.path.startswith("/jwks"):
            self._json({"keys": [self.server.key.as_dict(private=False)]})
            return
        self._json(
            {
                "issuer": url, "authorization_endpoint": f"{url}/authorize", "token_endpoint": f"{url}/token",
                "jwks_uri": f"{url}/jwks", "response_types_supported": ["code"], "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
            }
        )  # fmt: skip

    def do_POST(self) -> None:
        from joserfc import jwt

        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        now = int(time.time())
        claims = {
            "iss": self.server.url, "sub": "7", "aud": "osml", "iat": now, "exp": now + 600,
            "nonce": self.server.nonce, "email": "ada@example.org",
        }  # fmt: skip
        token = jwt.encode({"alg": "RS256", "kid": "one"}, claims, self.server.key)
        self._json({"access_token": "a", "token_type": "Bearer", "expires_in": 600, "id_token": token})

    def _json(self, data: Any) -> None:
        raw = json.dumps(data).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def provider() -> Iterator[Provider]:
    server = Provider()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def cookies_of(answer: Any) -> dict[str, str]:
    found = [value.partition(";")[0] for key, value in answer.getheaders() if key.lower() == "set-cookie"]
    return {cookie.partition("=")[0]: cookie.partition("=")[2] for cookie in found}


def test_nobody_sees_a_page_before_the_provider_vouches_for_them(provider: Provider, tmp_path: Path) -> None:
    run = serve(tmp_path / "study")
    (tmp_path / ".streamlit").mkdir()
    (tmp_path / ".streamlit" / "secrets.toml").write_text(
        "[auth]\n"
        'redirect_uri = "http://127.0.0.1:{port}/oauth2callback"\n'
        f'cookie_secret = "{"0123456789abcdef" * 3}"\n'
        'client_id = "osml"\nclient_secret = "secret"\n'
        f'server_metadata_url = "{provider.url}/.well-known/openid-configuration"\n',
        encoding="utf-8",
    )
    with osml_app(run, "--auth", "required", home=tmp_path) as (port, _):
        origin = f"http://127.0.0.1:{port}"
        with Visitor(port, origin=origin) as stranger:
            assert [one.label for one in stranger.all("button")] == ["Log in"]
            assert not stranger.all("text_input")
            assert "Served study" not in stranger.words()
            stranger.begin(click="Log in")
            while (message := stranger.receive(60)).WhichOneof("type") != "auth_redirect":
                pass
        login = urlsplit(message.auth_redirect.url)
        begun = request(port, "GET", f"{login.path if login.path.startswith('/') else '/' + login.path}?{login.query}")
        place = urlsplit(begun.getheader("Location") or "")
        asked = parse_qs(place.query)
        assert f"{place.scheme}://{place.netloc}{place.path}" == f"{provider.url}/authorize"
        assert asked["redirect_uri"] == [f"{origin}/oauth2callback"]
        provider.nonce = asked["nonce"][0]
        held = cookies_of(begun)
        back = f"/oauth2callback?code=x&state={asked['state'][0]}"
        header = "; ".join(f"{name}={value}" for name, value in held.items())
        forged = request(
            port, "GET", f"/oauth2callback?code=x&state=guess{asked['state'][0]}", headers={"Cookie": header}
        )
        assert "_streamlit_user" not in cookies_of(forged)
        done = request(port, "GET", back, headers={"Cookie": header})
        user = cookies_of(done)
        assert "_streamlit_user" in user
        changed = {name: value[:-4] + "AAAA" for name, value in user.items()}
        with Visitor(port, origin=origin, cookies=changed) as forger:
            assert not forger.all("text_input")
        with Visitor(port, origin=origin, cookies=user) as ada:
            assert ada.all("text_input")
            assert "Logged in as ada@example.org" in ada.words()
    found = [dict(zip(HEADER, row, strict=True)) for row in read_log(str(tmp_path / "state" / "osml" / "audit.sqlite"))]
    assert [(line["action"], line["outcome"], line["user"]) for line in found] == [
        ("login", "started", "ada@example.org"), ("login", "ok", "ada@example.org"),
    ]  # fmt: skip
