"""`osml synth`: every cohort is written, named as synthetic, and its bounds are printed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from osml.cli import main
from osml.errors import EXIT_FINE, EXIT_USER


@pytest.fixture
def synth(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Calls `osml synth WORDS` in this process: exit code, output, errors."""

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["osml", "synth", *words])
        with pytest.raises(SystemExit) as end:
            main()
        shown = capsys.readouterr()
        return int(end.value.code or 0), shown.out, shown.err

    return call


def test_nac_without_images(synth: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    code, out, _ = synth("nac", "-o", str(tmp_path / "a"), "--patients", "10")
    assert code == EXIT_FINE
    assert "10 synthetic patients, no real person" in out
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["SYNTHETIC.txt", "patients.csv"]


@pytest.mark.parametrize("words", [("--broken",), ("--size", "small")])
def test_options_of_images_need_images(
    synth: Callable[..., tuple[int, str, str]], tmp_path: Path, words: tuple[str, ...]
) -> None:
    code, _, err = synth("nac", "-o", str(tmp_path / "a"), *words)
    assert code == EXIT_USER
    assert "--size and --broken describe images" in err
    assert "Add --images." in err
    assert not (tmp_path / "a").exists()


@pytest.mark.full
def test_nac_with_images_lists_what_is_broken(synth: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    code, out, _ = synth("nac", "-o", str(tmp_path), "--images", "--broken", "--patients", "12", "--size", "small")
    assert code == EXIT_FINE
    assert "12 synthetic patients with MRI, no real person" in out
    assert "best possible AUC: clinical 0.77" in out
    assert out.count("is broken on purpose:") == 6


@pytest.mark.parametrize(
    "words, table, said",
    [
        (("tiles", "--patients", "4", "--tiles", "8"), "tiles.csv", "4 synthetic patients, no real person; non_tumor"),
        (("xray", "--patients", "10"), "radiographs.csv", "10 synthetic patients, no real person"),
    ],
)
@pytest.mark.full
def test_the_other_cohorts(
    synth: Callable[..., tuple[int, str, str]], tmp_path: Path, words: tuple[str, ...], table: str, said: str
) -> None:
    code, out, _ = synth(*words, "-o", str(tmp_path))
    assert code == EXIT_FINE
    assert said in out
    assert {table, "truth.json", "truth.csv", "SYNTHETIC.txt"} <= {path.name for path in tmp_path.iterdir()}
