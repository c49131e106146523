"""AutoGluon's files: pickles. Packed as bytes when a model was fitted here, revived only where they are trusted.

A pickle is a program: reading one from a stranger runs the stranger's code. So nothing here is called for a stored
model without the user's consent; see `osml.predictors.registry.load_predictor`.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import platform
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from osml.errors import RunError, VerificationError, missing_extra

LOGGER = "autogluon"
METADATA = "metadata.json"
UTILS = "utils"  # where AutoGluon keeps training rows, out-of-fold predictions and templates
# Packages whose objects lie in the files: another version reads them as something else, or not at all.
PACKAGES = ("autogluon.tabular", "scikit-learn", "lightgbm", "pandas", "numpy")


@cache
def import_tabular() -> Any:
    """`TabularPredictor`, with AutoGluon's own printing switched off.

    Raises
    ------
    MissingExtraError
        AutoGluon is not installed.
    """
    try:
        import lightgbm  # noqa: F401  # AutoGluon would go on without, and say that its boosted trees failed
        from autogluon.tabular import TabularPredictor
    except ImportError as error:
        package = str(error.name or "autogluon.tabular")
        raise missing_extra(package, "autogluon", "predictors of kind autogluon") from error
    logger = logging.getLogger(LOGGER)
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return TabularPredictor


@contextlib.contextmanager
def logged() -> Iterator[io.StringIO]:
    """What AutoGluon and the libraries below it say, into a text instead of the terminal."""
    log, logger = io.StringIO(), logging.getLogger(LOGGER)
    handler = logging.StreamHandler(log)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    try:
        with (
            warnings.catch_warnings(record=True) as caught,
            contextlib.redirect_stdout(log),
            contextlib.redirect_stderr(log),
        ):
            warnings.simplefilter("default")
            yield log
        for line in dict.fromkeys(f"{one.category.__name__}: {one.message}" for one in caught):
            log.write(line + "\n")
    finally:
        logger.removeHandler(handler)


def versions() -> dict[str, str]:
    """Versions that the files depend on, of this environment."""
    found = {"python": ".".join(platform.python_version_tuple()[:2])}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def check_versions(name: str, stored: Mapping[str, str]) -> None:
    """Refuse files that other versions wrote.

    Raises
    ------
    MissingExtraError
        A package is not installed.
    RunError
        A version differs.
    """
    here = versions()
    gone = [package for package in stored if here.get(package, "absent") == "absent"]
    if gone:
        raise missing_extra(gone[0], "autogluon", f"predictor {name!r}, which is of kind autogluon")
    other = {key: value for key, value in stored.items() if here.get(key) != value}
    if other:
        words = ", ".join(f"{key} {value} (here {here.get(key, 'absent')})" for key, value in other.items())
        raise RunError(
            f"the AutoGluon files of {name!r} were written with {words}",
            why="Pickles of one version are not made to be read by another: at best they fail, at worst they differ.",
            do="Load them where these versions are installed, or fit the study again.",
        )


def pack(folder: Path) -> dict[str, bytes]:
    """The files below a folder of AutoGluon that prediction needs, by relative path.

    Without training data, out-of-fold predictions and the list of the machine's packages.
    """
    out = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if UTILS in name.split("/"):
            continue
        raw = path.read_bytes()
        if name == METADATA:
            # It lists every package of the machine, which concerns nobody.
            raw = json.dumps({**json.loads(raw), "packages": {}}, sort_keys=True).encode()
        out[name] = raw
    return out


def revive(name: str, files: Mapping[str, bytes]) -> Any:
    """A `TabularPredictor` in memory. Runs whatever code the files hold.

    Raises
    ------
    VerificationError
        AutoGluon cannot read the files.
    """
    tabular = import_tabular()
    with tempfile.TemporaryDirectory(prefix="osml-") as folder:
        for relative, raw in files.items():
            path = Path(folder, relative)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(raw)
        try:
            predictor = tabular.load(folder, verbosity=0)
        except (AssertionError, AttributeError, EOFError, ImportError, OSError, ValueError) as error:
            raise VerificationError(
                f"AutoGluon cannot read the files of {name!r}: {type(error).__name__} {error}",
                do="Use the versions that made them, or fit the study again.",
            ) from error
        # Without the limit: half a model that goes back to a folder which is gone would be no model.
        predictor.persist("best", max_memory=None)
    return predictor
