"""Load a predictor from a bundle: every file verified, the parts agree with each other, the golden cases replayed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from osml.cohort.cohort import Cohort
from osml.cohort.table import Table, read_table
from osml.errors import OsmlError, RunError, VerificationError
from osml.nomogram import Nomogram, from_json
from osml.predictors.chain import Chain, load_chain
from osml.predictors.nomogram import FittedNomogram
from osml.runs.bundle import Bundle, open_bundle
from osml.schema.model import BinaryInput, CategoryInput, Schema
from osml.schema.suggest import hint
from osml.serving.model import Model

GOLDEN_TOLERANCE = 1e-9


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
    chain = load_chain(schema, predictor, bundle.path / place)
    _agree(schema, chain)
    nomogram = None
    if f"{place}/nomogram.json" in files:
        nomogram = from_json(bundle.content(f"{place}/nomogram.json").decode("utf-8"))
        _agree_nomogram(nomogram, chain)
    means = np.array(bundle.read(f"{place}/background.json")["means"], dtype=np.float64)
    model = Model(bundle, schema, predictor, chain, bundle.read("facts.json"), nomogram, means)
    if f"{place}/golden.json" in files:
        _replay(model, bundle.read(f"{place}/golden.json"))
    return model


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


def made_up(chain: Chain, cases: Mapping[str, Any]) -> Cohort:
    """A cohort of made-up patients; labs that enter by their kit range get the range 0 to 1, which leaves them as given."""
    fitted = chain.fitted
    assert isinstance(fitted, FittedNomogram)
    n = len(next(iter(cases.values())))
    names = tuple(f"case {i + 1}" for i in range(n))
    values = {i.name: np.asarray(cases.get(i.name, np.full(n, np.nan)), dtype=float) for i in fitted.recipe.inputs}
    kit = {i.name: (np.zeros(n), np.ones(n)) for i in fitted.recipe.inputs if i.encode != "value"}
    return Cohort(names, names, np.zeros(n, dtype=np.intp), values, kit, {}, None)


def _schema(bundle: Bundle) -> Schema:
    try:
        return Schema.model_validate(bundle.read("schema.json"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise VerificationError(
            f"the bundle's schema cannot be read: {where}: {first['msg']}", do="Update osml, or make the bundle again."
        ) from None


def _available(bundle: Bundle, schema: Schema) -> tuple[str, ...]:
    return tuple(n for n in schema.predictors if f"predictors/{n}/model.json" in bundle.manifest["files"])


def _agree(schema: Schema, chain: Chain) -> None:
    """The model asks for inputs by name and reads levels by position: the schema must mean the same by both."""
    fitted = chain.fitted
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
            raise _contradiction(f"{item.name!r} has levels {list(levels)} in the schema, {list(item.levels)} in the model")
        if (getattr(block, "unit", None) or "") != item.unit:
            raise _contradiction(f"{item.name!r} has unit {getattr(block, 'unit', None)!r} in the schema, {item.unit!r} in the model")
    for link in chain.upstream:
        _agree(schema, link)


def _agree_nomogram(nomogram: Nomogram, chain: Chain) -> None:
    fitted = chain.fitted
    assert isinstance(fitted, FittedNomogram)
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


def _replay(model: Model, stored: Mapping[str, Any]) -> None:
    cases = {name: np.array(x, dtype=float) for name, x in stored["values"].items()}
    p, expected = model.chain.predict(made_up(model.chain, cases)).p, np.array(stored["p"])
    gap = float(np.max(np.abs(p - expected))) if p.shape == expected.shape else float("inf")
    if not gap <= GOLDEN_TOLERANCE:
        raise VerificationError(
            f"the model does not reproduce its golden cases: probabilities differ by up to {gap:.3g}",
            do="Do not use this bundle; make it again from its run.",
        )
