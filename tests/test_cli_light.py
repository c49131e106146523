"""The command line answers at once: help imports nothing heavy, and exit codes say what kind of end it was."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers import clinic_rows, minimal_schema, write_csv_table, write_schema
from typer.main import get_command

from osml.cli import app, main
from osml.errors import EXIT_CHECK, EXIT_FINE, EXIT_INTERNAL, EXIT_USER

HEAVY = (
    "numpy",
    "scipy",
    "pandas",
    "matplotlib",
    "pydantic",
    "ruamel",
    "pyarrow",
    "openpyxl",
    "torch",
    "timm",
    "torchvision",
)


def _commands() -> list[tuple[str, ...]]:
    """Every command and group, as the words that call it."""
    found: list[tuple[str, ...]] = []

    def visit(command: object, words: tuple[str, ...]) -> None:
        below = getattr(command, "commands", {})
        if words:
            found.append(words)
        for name in below:
            visit(below[name], (*words, name))

    visit(get_command(app), ())
    return found


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Ended]:
    """Calls `osml WORDS` in this process, in the test's folder."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["osml", *words])
        with pytest.raises(SystemExit) as end:
            main()
        shown = capsys.readouterr()
        return Ended(int(end.value.code or 0), shown.out, shown.err)

    return call


_HELP = f"""
import contextlib, io, json, sys
from osml.cli import main
out = {{}}
for words in json.loads(sys.argv[1]):
    sys.argv = ["osml", *words, "--help"]
    shown = io.StringIO()
    try:
        with contextlib.redirect_stdout(shown):
            main()
        code = "no exit"
    except SystemExit as end:
        code = end.code
    heavy = [name for name in {HEAVY!r} if name in sys.modules]
    out[" ".join(words)] = [code, shown.getvalue(), heavy]
print(json.dumps(out))
"""


def _help(*calls: tuple[str, ...]) -> dict[str, list[object]]:
    done = subprocess.run(
        [sys.executable, "-c", _HELP, json.dumps(calls)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    return answer


def test_help_is_light_and_every_command_answers_it() -> None:
    commands = _commands()
    assert {("init",), ("check",), ("fit",), ("predict",), ("schema",), ("doctor",), ("synth", "nac")} <= set(commands)
    answers = _help((), *commands)
    for words, (code, shown, heavy) in answers.items():
        assert code == EXIT_FINE, words
        assert str(shown).startswith(f"Usage: osml {words}".rstrip()), words
        # typer itself looks at a command's options with pydantic; the first page must not.
        assert heavy == [] or (words and heavy == ["pydantic"]), words
    listed = str(answers[""][1])
    assert all(f"  {words[0]}" in listed for words in commands)


def test_the_probe_would_see_a_heavy_import() -> None:
    code = "import sys, numpy; print([name for name in ('numpy', 'pandas') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "['numpy']"


def test_exit_codes_are_distinct() -> None:
    assert len({EXIT_FINE, EXIT_USER, EXIT_CHECK, EXIT_INTERNAL}) == 4


@pytest.mark.parametrize(
    "words, said",
    [
        (("nope",), "No such command 'nope'"),
        (("check",), "Missing argument 'SCHEMA'"),
        (("check", "none.yaml"), "SchemaError: no schema at none.yaml"),
        (("check", "none.yaml", "--sett", "a=b"), "No such option"),
        (("init", "none.csv"), "TableError: no table at none.csv"),
        (("fit", "none.yaml"), "SchemaError: no schema at none.yaml"),
    ],
)
def test_a_users_error_ends_with_1(run: Callable[..., Ended], words: tuple[str, ...], said: str) -> None:
    ended = run(*words)
    assert (ended.code, ended.out) == (EXIT_USER, "")
    assert said in ended.err
    assert "Traceback" not in ended.err


def _forty_patients() -> list[list[str]]:
    return [
        [row[0], str(30 + 7 * i % 41), ("male", "female")[i // 4 % 2], row[3]] for i, row in enumerate(clinic_rows(40))
    ]


def test_a_failed_check_ends_with_2_and_an_accepted_one_with_0(run: Callable[..., Ended], tmp_path: Path) -> None:
    write_csv_table(tmp_path / "clinic.csv", _forty_patients())
    data = minimal_schema()
    data["inputs"]["age"]["available"] = "surgery"
    write_schema(tmp_path, data)
    checked = run("check", "study.yaml")
    assert checked.code == EXIT_CHECK
    assert "OSML014 refuse: age: known at 'surgery', predicted at 'visit'" in checked.out
    fitted = run("fit", "study.yaml")
    assert fitted.code == EXIT_CHECK
    assert fitted.err.startswith("CheckError: 1 check refuses this study\n  OSML014 ")
    assert not (tmp_path / "runs").exists()
    data["checks"] = {"accept": {"OSML014": "a test"}}
    write_schema(tmp_path, data)
    accepted = run("check", "study.yaml")
    assert (accepted.code, accepted.err) == (EXIT_FINE, "")
    assert "OSML014 accepted: a test" in accepted.out


def test_a_table_error_ends_with_1(run: Callable[..., Ended], tmp_path: Path) -> None:
    rows = clinic_rows()
    rows[2][1] = "old"
    write_csv_table(tmp_path / "clinic.csv", rows)
    write_schema(tmp_path, minimal_schema())
    ended = run("check", "study.yaml")
    assert ended.code == EXIT_USER
    assert ended.err.startswith("TableError: 1 cell of clinic.csv cannot be used; nothing was fitted.\n")


def test_an_internal_error_ends_with_3(run: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr("osml.doctor.report", broken)
    ended = run("doctor")
    assert ended.code == EXIT_INTERNAL
    assert "ZeroDivisionError: planted" in ended.err
    assert ended.err.endswith("internal error: please report the lines above\n")


def test_init_writes_once(run: Callable[..., Ended], tmp_path: Path) -> None:
    write_csv_table(tmp_path / "clinic.csv", clinic_rows())
    done = run("init", "clinic.csv", "--target", "outcome", "--patient", "id")
    assert (done.code, done.err) == (EXIT_FINE, "")
    assert 'wrote clinic.yaml: 5 places marked "?" are for you to answer' in done.out
    before = (tmp_path / "clinic.yaml").read_bytes()
    again = run("init", "clinic.csv")
    assert again.code == EXIT_USER
    assert "clinic.yaml exists; nothing was written" in again.err
    assert (tmp_path / "clinic.yaml").read_bytes() == before
    assert "still to be answered" in run("check", "clinic.yaml").err
