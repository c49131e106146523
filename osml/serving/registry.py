"""A registry: a folder of published bundles. Each is verified; one that fails is listed with the reason, not served."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from osml.errors import OsmlError
from osml.runs.bundle import MANIFEST, open_bundle
from osml.serving.loading import available_predictors, find_bundles, load


@dataclass(frozen=True)
class Published:
    """One bundle of a registry.

    made : when its manifest was written here, UTC
    refused : why it cannot be served; empty where it can
    """

    path: Path
    name: str
    study: str = ""
    predictors: tuple[str, ...] = ()
    model_hash: str = ""
    made: str = ""
    validation: str = ""
    refused: str = ""


def list_registry(folder: str | Path, *, replay: bool = False, trust: bool = False) -> list[Published]:
    """Every bundle below a folder (of bundles, of runs, or one of them), in the order of names.

    Parameters
    ----------
    replay : also load every predictor and replay its golden cases, which takes seconds for networks; without it files
        are verified by their hashes only
    trust : see `osml.serving.load`

    Raises
    ------
    RunError
        There is no bundle at all.
    """
    return [published(path, replay=replay, trust=trust) for path in find_bundles(folder)]


def published(path: Path, *, replay: bool = False, trust: bool = False) -> Published:
    """What a registry says of one bundle; never raises because of what is in it."""
    name = path.parent.parent.name if path.parent.name == "latest" else path.parent.name
    name = name if path.name == "bundle" else path.name
    made = datetime.fromtimestamp((path / MANIFEST).stat().st_mtime, UTC).strftime("%Y-%m-%d")
    try:
        bundle = open_bundle(path)
        region = bundle.manifest.get("target") == "region"
        predictors = () if region else available_predictors(path)
        for predictor in predictors if replay else ():
            load(path, predictor, trust=trust)
        validation = "maps slides" if region else str(bundle.read("facts.json").get("validation", ""))
    except OsmlError as error:
        return Published(path, name, made=made, refused=error.what)
    except (KeyError, OSError, TypeError, ValueError) as error:
        return Published(path, name, made=made, refused=f"cannot be read: {type(error).__name__}")
    study = str(bundle.manifest.get("study", ""))
    return Published(path, name, study, predictors, bundle.model_hash, made, validation)


def show_registry(folder: Path, replay: bool, trust: bool, say: Callable[[str], None]) -> int:
    """The command `osml registry`: one line per bundle; returns how many were refused."""
    entries = list_registry(folder, replay=replay, trust=trust)
    for entry in entries:
        if entry.refused:
            say(f"refused   {entry.name}: {entry.refused}")
            continue
        predictors = ", ".join(entry.predictors) or "-"
        say(f"{'replayed' if replay else 'verified'}  {entry.name}: study {entry.study}; predictors {predictors}")
        say(f"          {entry.made}  {entry.validation}  manifest {entry.model_hash}")
    return sum(bool(entry.refused) for entry in entries)
