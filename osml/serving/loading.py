"""Load a predictor from a bundle: every file verified, the parts agree with each other, the golden cases replayed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from osml.cohort.table import Table, read_table
from osml.errors import OsmlError, RunError, VerificationError, missing_extra
from osml.nomogram import from_json
from osml.predictors.chain import Chain, load_chain
from osml.predictors.nomogram import FittedNomogram
from osml.predictors.tabular import reader_of
from osml.runs.bundle import Bundle, open_bundle
from osml.schema.model import Schema
from osml.schema.suggest import hint
from osml.serving.agree import agree, agree_drawing
from osml.serving.encoders import EncoderShelf, network_images, readers_of
from osml.serving.golden import links, replay
from osml.serving.model import Model
from osml.serving.recipe import NAME as RECIPE
from osml.serving.recipe import check_recipe


def load(path: str | Path, predictor: str | None = None, *, trust: bool = False) -> Model:
    """Load a predictor from a run, a study's folder (its latest run) or a bundle.

    Parameters
    ----------
    predictor : default: the one that the study chose, else the first of the schema that was fitted
    trust : whether files that run code (AutoGluon's pickles) may be read; whoever made the bundle then runs code as
        this user. Predictors without such files, and all that feed them, need none.

    Raises
    ------
    TrustError
        The predictor has such files, or is fed by one that has, and `trust` is false.
    RunError, VerificationError
        Not a bundle, a newer one, or one that was changed, contradicts itself or does not reproduce its golden cases.
    """
    bundle = open_bundle(bundle_folder(Path(path)))
    if bundle.manifest.get("target") == "region":
        raise RunError(
            "this bundle maps tissue on whole slides; it predicts no table of patients",
            do="Map slides with `osml slide segment`, or take its rates into a study by an input of `kind: score`.",
        )
    schema = read_schema(bundle)
    files = bundle.manifest["files"]
    available = _available(bundle, schema)
    if predictor is None:
        if not available:
            raise RunError("the bundle holds no predictor: all failed")
        predictor = available[0]
    if predictor not in available:
        raise RunError(f"the bundle has no predictor {predictor!r}", do=hint(predictor, available))
    place = f"predictors/{predictor}"
    chain = _chain(bundle, schema, predictor, trust)
    agree(schema, chain)
    stored = bundle.read(RECIPE) if RECIPE in files else None
    check_recipe(schema, predictor, stored, readers_of(chain))
    nomogram = None
    if f"{place}/nomogram.json" in files:
        nomogram = from_json(bundle.content(f"{place}/nomogram.json").decode("utf-8"))
        agree_drawing(nomogram, chain)
    means = np.empty(0)
    if isinstance(chain.fitted, FittedNomogram):
        means = np.array(bundle.read(f"{place}/background.json")["means"], dtype=np.float64)
    vectors: dict[str, Any] = {}
    for link, where in links(chain, place):
        cases = bundle.read(f"{where}/golden.json")
        replay(link.name, link.fitted, cases)
        if reader_of(link.fitted) is not None:
            vectors |= {f"{link.name}.{name}": found for name, found in cases["encoders"].items()}
    expected = {
        image.identity: vectors.get(f"{image.predictor}.{image.source.name}")
        for image in network_images(schema, chain)
        if image.frozen
    }
    return Model(bundle, schema, predictor, chain, bundle.read("facts.json"), nomogram, means, EncoderShelf(expected))


def available_predictors(path: str | Path) -> tuple[str, ...]:
    """Predictors that a run or bundle can serve."""
    bundle = open_bundle(bundle_folder(Path(path)))
    return _available(bundle, read_schema(bundle))


def bundle_folder(path: Path) -> Path:
    """The bundle inside a run or a study's folder, or the folder itself."""
    for candidate in (path, path / "bundle", path / "latest" / "bundle"):
        if (candidate / "manifest.json").is_file():
            return candidate
    if (path / "latest").is_file():
        return bundle_folder(path / (path / "latest").read_text(encoding="utf-8").strip())
    raise RunError(f"{path} is neither a bundle nor a finished run", do="Give the folder that `osml fit` printed.")


def find_bundles(path: str | Path) -> tuple[Path, ...]:
    """Bundles at a path: its own, or of a folder of runs the latest of every study, or of bundles each, by their names.

    Folders whose names begin with a dot are being written and are passed over.
    """
    path = Path(path)
    try:
        return (bundle_folder(path),)
    except RunError:
        if not path.is_dir():
            raise
    found = []
    for study in sorted(folder for folder in path.iterdir() if not folder.name.startswith(".")):
        for candidate in (study / "latest" / "bundle", study / "bundle", study):
            if (candidate / "manifest.json").is_file():
                found.append(candidate)
                break
    if not found:
        raise RunError(f"{path} holds no finished run", do="Run `osml fit` first, or give a run or a bundle.")
    return tuple(found)


def read_patients(path: str | Path, model: Model) -> Table:
    """Read a table as the model's schema says it is written."""
    block = model.schema.cohort
    return read_table(path, delimiter=block.delimiter, sheet=block.sheet)


def read_schema(bundle: Bundle) -> Schema:
    """The schema of a bundle."""
    try:
        return Schema.model_validate(bundle.read("schema.json"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise VerificationError(
            f"the bundle's schema cannot be read: {where}: {first['msg']}", do="Update osml, or make the bundle again."
        ) from None


def _chain(bundle: Bundle, schema: Schema, predictor: str, trust: bool) -> Chain:
    try:
        return load_chain(schema, predictor, bundle.path / "predictors" / predictor, trust=trust)
    except OsmlError:
        raise
    except ImportError as error:
        raise missing_extra(str(error.name or "torch").partition(".")[0], "nets", "models that are networks") from error
    except (KeyError, TypeError, ValueError) as error:
        raise VerificationError(
            f"the model of {predictor!r} cannot be read: {type(error).__name__} {error}",
            why=f"It was made by osml {bundle.manifest.get('osml')}.",
            do="Use that version, or make the bundle again from its run.",
        ) from None


def _available(bundle: Bundle, schema: Schema) -> tuple[str, ...]:
    """Predictors with a model, the one that the study chose first."""
    chosen = bundle.read("facts.json").get("chosen")
    names = sorted(schema.predictors, key=lambda name: name != chosen)
    return tuple(n for n in names if f"predictors/{n}/model.json" in bundle.manifest["files"])
