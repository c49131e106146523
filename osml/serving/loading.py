"""Load a predictor from a bundle: every file verified, the parts agree with each other, the golden cases replayed."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from osml.cohort.table import Table, read_table
from osml.errors import OsmlError, RunError, VerificationError
from osml.features import settings_of
from osml.nomogram import Nomogram, from_json
from osml.predictors.chain import Chain, load_chain
from osml.predictors.nomogram import FittedNomogram
from osml.predictors.radscore import FittedRadscore, radscore_recipe
from osml.runs.bundle import Bundle, open_bundle
from osml.schema.model import BinaryInput, CategoryInput, Schema
from osml.schema.suggest import hint
from osml.serving.golden import links, replay
from osml.serving.model import Model
from osml.serving.recipe import NAME as RECIPE
from osml.serving.recipe import check_recipe


def load(path: str | Path, predictor: str | None = None) -> Model:
    """Load a predictor from a run, a study's folder (its latest run) or a bundle.

    Parameters
    ----------
    predictor : default: the first of the schema that was fitted

    Raises
    ------
    RunError, VerificationError
        Not a bundle, a newer one, or one that was changed, contradicts itself or does not reproduce its golden cases.
    """
    bundle = open_bundle(bundle_folder(Path(path)))
    schema = _schema(bundle)
    files = bundle.manifest["files"]
    available = _available(bundle, schema)
    if predictor is None:
        if not available:
            raise RunError("the bundle holds no predictor: all failed")
        predictor = available[0]
    if predictor not in available:
        raise RunError(f"the bundle has no predictor {predictor!r}", do=hint(predictor, available))
    place = f"predictors/{predictor}"
    chain = _chain(bundle, schema, predictor)
    _agree(schema, chain)
    check_recipe(schema, predictor, bundle.read(RECIPE) if RECIPE in files else None)
    nomogram = None
    if f"{place}/nomogram.json" in files:
        nomogram = from_json(bundle.content(f"{place}/nomogram.json").decode("utf-8"))
        _agree_nomogram(nomogram, chain)
    means = np.empty(0)
    if isinstance(chain.fitted, FittedNomogram):
        means = np.array(bundle.read(f"{place}/background.json")["means"], dtype=np.float64)
    for link, where in links(chain, place):
        replay(link.name, link.fitted, bundle.read(f"{where}/golden.json"))
    return Model(bundle, schema, predictor, chain, bundle.read("facts.json"), nomogram, means)


def available_predictors(path: str | Path) -> tuple[str, ...]:
    """Predictors that a run or bundle can serve."""
    bundle = open_bundle(bundle_folder(Path(path)))
    return _available(bundle, _schema(bundle))


def bundle_folder(path: Path) -> Path:
    """The bundle inside a run or a study's folder, or the folder itself."""
    for candidate in (path, path / "bundle", path / "latest" / "bundle"):
        if (candidate / "manifest.json").is_file():
            return candidate
    if (path / "latest").is_file():
        return bundle_folder(path / (path / "latest").read_text(encoding="utf-8").strip())
    raise RunError(f"{path} is neither a bundle nor a finished run", do="Give the folder that `osml fit` printed.")


def find_bundles(path: str | Path) -> tuple[Path, ...]:
    """Bundles at a path: its own, or the latest of every study in a folder of runs, in the order of their names."""
    path = Path(path)
    try:
        return (bundle_folder(path),)
    except RunError:
        if not path.is_dir():
            raise
    found = []
    for study in sorted(path.iterdir()):
        for candidate in (study / "latest" / "bundle", study / "bundle"):
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


def _schema(bundle: Bundle) -> Schema:
    try:
        return Schema.model_validate(bundle.read("schema.json"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise VerificationError(
            f"the bundle's schema cannot be read: {where}: {first['msg']}", do="Update osml, or make the bundle again."
        ) from None


def _chain(bundle: Bundle, schema: Schema, predictor: str) -> Chain:
    try:
        return load_chain(schema, predictor, bundle.path / "predictors" / predictor)
    except OsmlError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise VerificationError(
            f"the model of {predictor!r} cannot be read: {type(error).__name__} {error}",
            why=f"It was made by osml {bundle.manifest.get('osml')}.",
            do="Use that version, or make the bundle again from its run.",
        ) from None


def _available(bundle: Bundle, schema: Schema) -> tuple[str, ...]:
    return tuple(n for n in schema.predictors if f"predictors/{n}/model.json" in bundle.manifest["files"])


def _agree(schema: Schema, chain: Chain) -> None:
    """The model asks for inputs by name and reads levels by position: the schema must mean the same by both."""
    fitted = chain.fitted
    if isinstance(fitted, FittedRadscore):
        _agree_score(schema, chain, fitted)
        return
    assert isinstance(fitted, FittedNomogram)
    for item in fitted.recipe.inputs:
        if item.kind == "score":
            if item.name not in {link.name for link in chain.upstream}:
                raise _contradiction(f"{chain.name!r} needs the score {item.name!r}, which the schema does not feed it")
            continue
        block = schema.inputs.get(item.name)
        if block is None or item.name not in schema.predictors[chain.name].inputs:
            raise _contradiction(f"{chain.name!r} needs the input {item.name!r}, which the schema does not have")
        levels = block.levels if isinstance(block, (BinaryInput, CategoryInput)) else ()
        if levels != item.levels:
            raise _contradiction(
                f"{item.name!r} has levels {list(levels)} in the schema, {list(item.levels)} in the model"
            )
        if (getattr(block, "unit", None) or "") != item.unit:
            raise _contradiction(
                f"{item.name!r} has unit {getattr(block, 'unit', None)!r} in the schema, {item.unit!r} in the model"
            )
    for link in chain.upstream:
        _agree(schema, link)


def _agree_score(schema: Schema, chain: Chain, fitted: FittedRadscore) -> None:
    """A Rad-score reads features by the name of image, region and settings."""
    stated = radscore_recipe(schema, chain.name)
    if stated != fitted.recipe:
        ours, theirs = asdict(stated), asdict(fitted.recipe)
        key = next(key for key in ours if ours[key] != theirs[key])
        raise _contradiction(f"{chain.name!r} has {key} {ours[key]!r} in the schema, {theirs[key]!r} in the model")
    if (fitted.combat is None) is bool(fitted.recipe.site):
        raise _contradiction(
            f"{chain.name!r}: the schema harmonises its features and the model does not, or vice versa"
        )
    image = schema.radiomics()[fitted.recipe.input].of
    regions = settings_of(schema, fitted.recipe.input).regions
    for column in fitted.columns:
        parts = column.split("|")
        if len(parts) != 3 or parts[0] != image or parts[1] not in regions:
            raise _contradiction(f"{chain.name!r} reads the feature {column!r}, which the schema does not compute")


def _agree_nomogram(nomogram: Nomogram, chain: Chain) -> None:
    fitted = chain.fitted
    if not isinstance(fitted, FittedNomogram):
        raise _contradiction(f"{chain.name!r} has a nomogram although it is a Rad-score")
    drawn = {p.name: p.levels for p in nomogram.predictors}
    asked = {name: fitted.recipe.input(name).levels for name in fitted.model.inputs}
    if drawn != asked:
        raise _contradiction(f"the nomogram's inputs are {sorted(drawn)}, those of the model {sorted(asked)}")
    same = len(nomogram.model.coef) == len(fitted.model.coef) and np.array_equal(nomogram.model.coef, fitted.model.coef)
    if not same or nomogram.model.intercept != fitted.model.intercept:
        raise _contradiction("the nomogram draws other coefficients than the model has")


def _contradiction(what: str) -> OsmlError:
    return VerificationError(
        f"the bundle contradicts itself: {what}", do="Do not use this bundle; make it again from its run."
    )
