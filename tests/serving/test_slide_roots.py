"""Slides of a folder of the server: what is listed, and that no name and no link leads outside it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from osml.errors import RunError
from osml.serving import slide_roots
from osml.serving.launch import SLIDES_VARIABLE
from osml.serving.slide_roots import chosen_slide, list_slides, slide_root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two slides, one that is a link to another, one that leads outside, and files that are no slides."""
    root = tmp_path / "slides"
    (root / "year").mkdir(parents=True)
    (root / "a.svs").write_bytes(b"1")
    (root / "year" / "b.TIF").write_bytes(b"2")
    (root / "notes.txt").write_text("x")
    (root / ".hidden.svs").write_bytes(b"3")
    (tmp_path / "secret.svs").write_bytes(b"4")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "c.svs").write_bytes(b"5")
    (root / "inside.svs").symlink_to(root / "a.svs")
    (root / "outside.svs").symlink_to(tmp_path / "secret.svs")
    (root / "folder").symlink_to(tmp_path / "other")
    (root / "circle.svs").symlink_to(root / "circle.svs")
    return root


def test_only_slides_within_the_folder_are_listed(root: Path) -> None:
    found = list_slides(root)
    assert found.names == ("a.svs", "inside.svs", "year/b.TIF")
    assert not found.cut


def test_the_list_is_bounded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slide_roots, "MOST_SLIDES", 1)
    found = list_slides(root)
    assert len(found.names) == 1
    assert found.cut
    monkeypatch.setattr(slide_roots, "MOST_SLIDES", 9)
    monkeypatch.setattr(slide_roots, "DEPTH", 0)
    assert list_slides(root).names == ("a.svs", "inside.svs")


def test_a_slide_of_the_list_is_opened_by_its_real_path(root: Path) -> None:
    assert chosen_slide(root, "year/b.TIF") == root / "year" / "b.TIF"
    assert chosen_slide(root, "inside.svs") == root / "a.svs"


@pytest.mark.parametrize(
    "name",
    [
        "../secret.svs", "year/../../secret.svs", "outside.svs", "folder/c.svs", "circle.svs", "/etc/passwd", "",
        "notes.txt", "gone.svs", "a.svs\0.svs", "year\\b.TIF", "x" * 4096 + ".svs", ".", "year",
    ],
)  # fmt: skip
def test_names_that_lead_elsewhere_are_refused_without_a_path(root: Path, name: str) -> None:
    absolute = name.replace("/etc/passwd", str(root.parent / "secret.svs"))
    for one in {name, absolute}:
        with pytest.raises(RunError, match="no slide of the folder") as error:
            chosen_slide(root, one)
        assert str(root) not in str(error.value)


def test_the_folder_comes_from_the_environment(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(SLIDES_VARIABLE, raising=False)
    assert slide_root() is None
    link = tmp_path / "link"
    link.symlink_to(root)
    monkeypatch.setenv(SLIDES_VARIABLE, str(link))
    assert slide_root() == root
    monkeypatch.setenv(SLIDES_VARIABLE, str(tmp_path / "gone"))
    with pytest.raises(RunError, match="does not exist"):
        slide_root()
    assert os.environ[SLIDES_VARIABLE].endswith("gone")
