"""The bundle: what another hospital or the app loads. JSON and drawings, all hashed, nothing about a patient.

`manifest.json` names every file with its SHA-256; a changed, missing or added file and a newer format are refused with
their own messages. Golden cases are synthetic, drawn from the printed axes, and are replayed before anything is served.

Files that run code when they are read (AutoGluon's pickles) lie in folders called `untrusted`; the manifest lists them.
Opening a bundle hashes them and reads none of them as what they are.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import osml
from osml.errors import RunError, VerificationError
from osml.files import read_json, sha256_file, write_json

FORMAT = "osml.bundle"
VERSION = 1
MANIFEST = "manifest.json"
UNTRUSTED = "untrusted"


@dataclass(frozen=True)
class Bundle:
    """A verified bundle folder and its manifest.

    model_hash : SHA-256 of the manifest when it was opened; names this bundle and no other
    """

    path: Path
    manifest: dict[str, Any]
    model_hash: str

    def content(self, name: str) -> bytes:
        """Bytes of a file that the manifest lists, verified again: a server may read it long after it was opened."""
        if name not in self.manifest["files"]:
            raise RunError(f"the bundle has no file {name!r}")
        raw = (self.path / name).read_bytes()
        if hashlib.sha256(raw).hexdigest() != self.manifest["files"][name]:
            raise _changed(name)
        return raw

    def read(self, name: str) -> Any:
        """A JSON file of the bundle; only files that the manifest lists."""
        return json.loads(self.content(name))


def seal(folder: Path, facts: dict[str, Any]) -> Bundle:
    """Write the manifest over every file in the folder; `facts` (seed, schema hash, licences) stand in it."""
    files = {
        str(p.relative_to(folder).as_posix()): sha256_file(p)
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != MANIFEST
    }
    manifest = {"format": FORMAT, "version": VERSION, "osml": osml.__version__, **facts, "files": files}
    if runs_code(files):
        manifest[UNTRUSTED] = runs_code(files)
    write_json(folder / MANIFEST, manifest)
    return Bundle(folder, manifest, manifest_hash(folder))


def runs_code(files: Iterable[str]) -> list[str]:
    """Those of these files of a bundle that run code when they are read.

    >>> runs_code(["predictors/a/model.json", "predictors/a/untrusted/learner.pkl"])
    ['predictors/a/untrusted/learner.pkl']
    """
    return sorted(name for name in files if UNTRUSTED in name.split("/")[:-1])


def manifest_hash(folder: Path) -> str:
    """SHA-256 of a bundle's manifest, without opening the bundle."""
    return sha256_file(folder / MANIFEST)


def open_bundle(path: str | Path) -> Bundle:
    """Verify and open a bundle folder.

    Raises
    ------
    RunError
        Not a bundle, or made by a newer format.
    VerificationError
        A file is missing, changed or was added; a link; a name that leads out of the folder.
    """
    folder = Path(path)
    if (folder / MANIFEST).is_symlink():
        raise _link(MANIFEST)
    if not (folder / MANIFEST).is_file():
        raise RunError(f"{folder} is not a bundle: it has no {MANIFEST}", do="Give a run or its `bundle/` folder.")
    try:
        manifest = read_json(folder / MANIFEST)
    except ValueError:
        raise VerificationError(f"{folder / MANIFEST} is not JSON: the bundle is damaged") from None
    if (
        not isinstance(manifest, dict)
        or manifest.get("format") != FORMAT
        or not isinstance(manifest.get("files"), dict)
    ):
        raise RunError(f"{folder} is not a bundle: its manifest is of another kind")
    version = manifest.get("version")
    if type(version) is not int or not 1 <= version <= VERSION:
        raise RunError(f"the bundle has format version {version}; this osml reads up to {VERSION}", do="Update osml.")
    _verify(folder, manifest["files"])
    if manifest.get(UNTRUSTED, []) != runs_code(manifest["files"]):
        raise VerificationError(
            "the manifest does not name the files that run code when they are read, or names others",
            why="Whoever decides whether to trust a bundle has to see them.",
            do="Copy the folder again from its source.",
        )
    return Bundle(folder, manifest, manifest_hash(folder))


def _verify(folder: Path, files: dict[str, str]) -> None:
    present = {str(p.relative_to(folder).as_posix()): p for p in folder.rglob("*") if not p.is_dir() or p.is_symlink()}
    present.pop(MANIFEST, None)
    links = sorted(name for name, p in present.items() if p.is_symlink())
    if links:
        raise _link(links[0])
    special = sorted(name for name, p in present.items() if not p.is_file())
    if special:
        raise VerificationError(f"the bundle holds {special[0]}, which is not a plain file")
    odd = sorted(
        name for name in files if not re.fullmatch(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*", name) or ".." in name
    )
    if odd:
        raise VerificationError(f"the manifest names a file outside the bundle: {odd[0]!r}")
    missing, added = sorted(set(files) - set(present)), sorted(set(present) - set(files))
    if missing:
        raise VerificationError(f"the bundle lacks {missing[0]}" + _more(missing), do="Copy the whole folder again.")
    if added:
        raise VerificationError(
            f"the bundle holds a file that its manifest does not name: {added[0]}" + _more(added),
            do="Remove it, or copy the folder again.",
        )
    for name, expected in files.items():
        if sha256_file(present[name]) != expected:
            raise _changed(name)


def _changed(name: str) -> VerificationError:
    return VerificationError(
        f"{name} was changed after the bundle was made",
        why="Its predictions would not be those that were validated.",
        do="Copy the folder again from its source.",
    )


def _link(name: str) -> VerificationError:
    return VerificationError(f"the bundle holds a link: {name}", why="A bundle is plain files only.")


def _more(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def fresh_folder(path: Path) -> Path:
    """An empty folder at `path`; an older one is removed first, so nothing stale is sealed in."""
    if path.exists():
        shutil.rmtree(path)
    path.mkdir(parents=True)
    return path
