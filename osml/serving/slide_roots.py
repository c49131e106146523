"""Slides on the server's disk: a list below one allowed folder, and nothing outside, whatever a name or link says."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from osml.errors import RunError
from osml.serving.launch import SLIDES_VARIABLE

SUFFIXES = (".svs", ".tif", ".tiff", ".ndpi", ".mrxs", ".scn", ".bif", ".svslide", ".vms", ".vmu")
MOST_SLIDES = 1_000
MOST_LOOKED_AT = 50_000
DEPTH = 6


@dataclass(frozen=True)
class SlideList:
    """Names of slides, relative to the root, in their order; `cut` where there are more than are listed."""

    root: Path
    names: tuple[str, ...]
    cut: bool


def slide_root() -> Path | None:
    """The folder that `osml app --slides FOLDER` allows; None where none was given.

    Raises
    ------
    RunError
        It is not a folder.
    """
    given = os.environ.get(SLIDES_VARIABLE)
    if not given:
        return None
    root = Path(given).resolve()
    if not root.is_dir():
        raise RunError("the folder of slides that the app was started with does not exist", do="Start it again.")
    return root


def list_slides(root: Path) -> SlideList:
    """Slides below a root by their suffix; folders that are links are not entered, files that lead outside left out."""
    found: list[str] = []
    looked, cut = 0, False
    for place, folders, files in os.walk(root, followlinks=False):
        here = Path(place)
        depth = len(here.relative_to(root).parts)
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if depth < DEPTH else []
        for name in sorted(files):
            looked += 1
            if looked > MOST_LOOKED_AT or len(found) >= MOST_SLIDES:
                cut = True
                break
            path = here / name
            if name.lower().endswith(SUFFIXES) and not name.startswith(".") and _inside(root, path):
                found.append(path.relative_to(root).as_posix())
        if cut:
            break
    return SlideList(root, tuple(sorted(found)), cut)


def chosen_slide(root: Path, name: str) -> Path:
    """The file of a slide of the list, after all links were followed.

    Raises
    ------
    RunError
        The name leads outside the root, or no slide is there. No path of the server is in the message.
    """
    parts = PurePosixPath(name).parts
    plain = bool(name) and "\0" not in name and "\\" not in name and not name.startswith("/") and ".." not in parts
    path = root.joinpath(*parts) if plain else root
    if not plain or not name.lower().endswith(SUFFIXES) or not _inside(root, path):
        raise RunError("this is no slide of the folder that the app may read", do="Choose one of the list.")
    return path.resolve()


def _inside(root: Path, path: Path) -> bool:
    """Whether a path is a file that lies below the root once links are followed."""
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError):  # gone, a name too long, or links in a circle
        return False
    return real.is_file() and real.is_relative_to(root.resolve())
