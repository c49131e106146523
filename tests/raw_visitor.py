"""A visitor without a browser: speaks Streamlit's protocol, and can send what no browser would."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.sync.client import ClientConnection, connect


@contextmanager
def osml_app(run: Path, *options: str, home: Path) -> Iterator[tuple[int, int]]:
    """Port and process id of the server that `osml app RUN` starts; it is stopped at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", "from osml.cli import main; main()", "app", str(run), "--no-browser"]
    environment = os.environ | {"XDG_STATE_HOME": str(home / "state"), "HOME": str(home), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [*command, "--port", str(port), *options], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            for _ in range(480):
                assert process.poll() is None, "the app ended"
                try:
                    if request(port, "GET", "/_stcore/health").status == 200:
                        break
                except OSError:
                    time.sleep(0.25)
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii").split()
            yield port, int(children[0])
        finally:
            process.terminate()


def request(
    port: int, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> http.client.HTTPResponse:
    """One HTTP request, its answer read."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request(method, path, body, dict(headers or {}))
        answer = connection.getresponse()
        answer.body = answer.read()  # type: ignore[attr-defined]
    finally:
        connection.close()
    return answer


class Visitor:
    """One session: what stands on its page, and how it answers."""

    def __init__(
        self,
        port: int,
        host: str | None = None,
        origin: str | None = None,
        cookies: Mapping[str, str] | None = None,
    ) -> None:
        self.port, self.host = port, host or f"127.0.0.1:{port}"
        cookie = request(port, "GET", "/_stcore/health", headers={"Host": self.host}).getheader("Set-Cookie") or ""
        self.xsrf = cookie.partition("=")[2].partition(";")[0]
        held = {"_streamlit_xsrf": self.xsrf} | dict(cookies or {})
        self._opened = connect(
            f"ws://{self.host}/_stcore/stream", subprotocols=["streamlit", self.xsrf or "x"],  # type: ignore[list-item]
            sock=socket.create_connection(("127.0.0.1", port)),  # wherever the name leads
            additional_headers={"Cookie": "; ".join(f"{k}={v}" for k, v in held.items())},
            origin=origin,  # type: ignore[arg-type]
            max_size=None, open_timeout=60,
        )  # fmt: skip
        self.socket: ClientConnection = self._opened.__enter__()
        self.session = ""
        self.elements: dict[tuple[int, ...], Any] = {}
        self.states: dict[str, WidgetState] = {}
        self._seen: dict[str, ForwardMsg] = {}
        self.run()

    def __enter__(self) -> Visitor:
        return self

    def __exit__(self, *_: Any) -> None:
        self._opened.__exit__(None, None, None)

    def run(self, **trigger: str) -> None:
        """Run the page with what was answered; `click=` names a button."""
        self.begin(**trigger)
        while self.receive(120).WhichOneof("type") != "script_finished":
            pass

    def begin(self, click: str = "") -> None:
        """Ask for a run and wait for nothing."""
        message = BackMsg()
        states = list(self.states.values())
        if click:
            states.append(WidgetState(id=self.widget("button", click).id, trigger_value=True))
        message.rerun_script.widget_states.widgets.extend(states)
        self.elements = {}
        self.socket.send(message.SerializeToString())

    def receive(self, seconds: float) -> ForwardMsg:
        """The next message of the server."""
        message = ForwardMsg()
        message.ParseFromString(self.socket.recv(timeout=seconds))  # type: ignore[arg-type]
        if message.WhichOneof("type") == "ref_hash":
            known = self._seen[message.ref_hash]
            path = list(message.metadata.delta_path)
            message = ForwardMsg()
            message.CopyFrom(known)
            message.metadata.delta_path[:] = path
        elif message.hash:
            self._seen[message.hash] = message
        kind = message.WhichOneof("type")
        if kind == "new_session":
            self.session = message.new_session.initialize.session_id or self.session
        elif kind == "delta" and message.delta.WhichOneof("type") == "new_element":
            self.elements[tuple(message.metadata.delta_path)] = message.delta.new_element
        return message

    def all(self, kind: str) -> list[Any]:
        """Elements of a kind in the order of the page."""
        found = [self.elements[path] for path in sorted(self.elements)]
        return [getattr(one, kind) for one in found if one.WhichOneof("type") == kind]

    def words(self) -> str:
        """Markdown and alerts, as they are sent."""
        return "\n".join([*(one.body for one in self.all("markdown")), *(one.body for one in self.all("alert"))])

    def widget(self, kind: str, label: str) -> Any:
        """A widget by the beginning of its label."""
        return next(one for one in self.all(kind) if one.label.startswith(label))

    def answer(self, label: str, text: str) -> None:
        """Type into a field."""
        found = self.widget("text_input", label)
        self.states[found.id] = WidgetState(id=found.id, string_value=text)

    def choose(self, label: str, option: str) -> None:
        """Press one of several buttons."""
        found = self.widget("button_group", label)
        state = WidgetState(id=found.id)
        state.string_array_value.data.append(option)
        self.states[found.id] = state

    def send_file(self, label: str, raw: bytes, name: str, kind: str = "text/csv") -> int:
        """Upload a file under any name, as the browser does; the page is not run. Returns the HTTP status."""
        message = BackMsg()
        message.file_urls_request.request_id = uuid.uuid4().hex
        message.file_urls_request.file_names.append("x")
        message.file_urls_request.session_id = self.session
        self.socket.send(message.SerializeToString())
        while True:
            back = self.receive(60)
            if back.WhichOneof("type") == "file_urls_response":
                urls = back.file_urls_response.file_urls[0]
                break
        status = self.put(urls.upload_url, raw, name, kind)
        uploader = self.widget("file_uploader", label)
        state = WidgetState(id=uploader.id)
        info = state.file_uploader_state_value.uploaded_file_info.add()
        info.name, info.size, info.file_id = name.replace("\0", ""), len(raw), urls.file_id
        info.file_urls.CopyFrom(urls)
        self.states[uploader.id] = state
        return status

    def put(self, path: str, raw: bytes, name: str, kind: str = "text/csv", xsrf: str | None = None) -> int:
        """The HTTP request of an upload."""
        token = self.xsrf if xsrf is None else xsrf
        edge = b"edge-of-the-file"
        head = b'Content-Disposition: form-data; name="file"; filename="' + name.encode() + b'"\r\n'
        body = b"--" + edge + b"\r\n" + head + b"Content-Type: " + kind.encode() + b"\r\n\r\n" + raw
        headers = {
            "Content-Type": f"multipart/form-data; boundary={edge.decode()}", "X-Xsrftoken": token,
            "Cookie": f"_streamlit_xsrf={self.xsrf}", "Host": self.host,
        }  # fmt: skip
        return request(self.port, "PUT", path, body + b"\r\n--" + edge + b"--\r\n", headers).status


def resident_mb(process: int) -> float:
    """Resident memory of a process."""
    text = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    return int(text.split("VmRSS:")[1].split()[0]) / 1024
