"""Bundles of networks: what they hold, what a changed one is refused for, and encoders that are found again or not."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the nets extra is not installed")
from networked import MODEL, serve_tiles, serve_xray
from safetensors.numpy import load_file, save_file

from osml.cohort.table import read_table
from osml.errors import VerificationError
from osml.nets.weights import WeightsError
from osml.runs.bundle import MANIFEST, seal
from osml.serving import load
from osml.serving.encoders import made_picture, raw_uniform

CELLS = {"age": "55", "sex": "male", "alp": "200", "alp_low": "45", "alp_high": "125"}
NET = "predictors/fused"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {"xray": serve_xray(tmp_path_factory.mktemp("x")), "tiles": serve_tiles(tmp_path_factory.mktemp("t"))}


@pytest.fixture(autouse=True)
def surroundings(
    runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OSML_WEIGHTS", str(runs["xray"].parents[2] / "weights"))
    monkeypatch.setenv("OSML_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("OSML_DEVICE", "cpu")


@pytest.fixture
def copied(runs: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a bundle that a test may spoil."""
    return lambda name: Path(shutil.copytree(runs[name] / "bundle", tmp_path / "bundle"))


def sealed(bundle: Path) -> Path:
    facts = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    seal(bundle, {key: facts[key] for key in ("study", "seed", "schema_sha256", "encoders")})
    return bundle


def edit(bundle: Path, name: str, change: Callable[[Any], object]) -> Path:
    data = json.loads((bundle / name).read_text(encoding="utf-8"))
    change(data)
    (bundle / name).write_text(json.dumps(data), encoding="utf-8")
    return sealed(bundle)


def test_a_bundle_holds_trained_tensors_and_the_names_of_encoders(runs: dict[str, Path]) -> None:
    for name, run in runs.items():
        bundle = run / "bundle"
        weights = run.parents[2] / "weights" / f"{MODEL}.safetensors"
        manifest = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()
        record = {"model": MODEL, "source": "file", "name": weights.name, "sha256": digest, "licence": ""}
        assert manifest["encoders"] == [record]
        endings = {path.suffix for path in bundle.rglob("*") if path.is_file()}
        assert endings <= {".json", ".safetensors", ".pdf", ".svg", ".html"}
        for path in bundle.rglob("*.safetensors"):
            trained = any(key.startswith("encoders.") for key in load_file(path))
            assert trained is ("tuned" in path.parts)
        for path in bundle.rglob("*"):
            if path.is_file() and path.suffix in (".json", ".html", ".svg"):
                text = path.read_text(encoding="utf-8")
                assert str(run.parents[2]) not in text, path
                assert "QX-" not in text, path
                assert "pictures/" not in text, path
        assert name


def test_no_weights_are_needed_to_load_what_is_frozen(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OSML_WEIGHTS", str(tmp_path))
    model = load(runs["xray"], "fused")
    assert model.predict_one(CELLS).ok  # without a picture no encoder is asked for
    table = read_table(runs["xray"].parents[2] / "table.csv")
    with pytest.raises(WeightsError, match=f"encoder {MODEL}: weights {MODEL}.safetensors with SHA-256 .* are not on"):
        model.predict(table, root=runs["xray"].parents[2])
    with pytest.raises(WeightsError, match=r"are not on this machine(?s:.*)\$OSML_WEIGHTS"):
        load(runs["tiles"], "tuned")


def test_another_weights_file_is_not_taken(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from encoder_files import weights_file

    weights_file(tmp_path, MODEL, seed=1)
    monkeypatch.setenv("OSML_WEIGHTS", str(tmp_path))
    model, picture = load(runs["xray"], "fused"), runs["xray"].parents[2] / "pictures" / "p0-0.png"
    with pytest.raises(WeightsError, match="are not on this machine"):
        model.predict_images(CELLS, {"xray": picture})


def test_an_encoder_that_computes_something_else_is_refused_when_it_is_first_used(
    copied: Callable[[str], Path], runs: dict[str, Path]
) -> None:
    def change(cases: Any) -> None:
        vectors = np.array(cases["encoders"]["xray"])
        cases["encoders"]["xray"] = (vectors * 1.01).tolist()

    bundle = edit(copied("xray"), f"{NET}/golden.json", change)
    model, picture = load(bundle, "fused"), runs["xray"].parents[2] / "pictures" / "p0-0.png"
    assert model.predict_one(CELLS).ok
    with pytest.raises(VerificationError, match="the encoder of 'xray' does not give the vectors"):
        model.predict_images(CELLS, {"xray": picture})


@pytest.mark.parametrize(
    ("study", "predictor", "place"),
    [("xray", "fused", f"{NET}/seed-1"), ("tiles", "tuned", "predictors/tuned/seed-0")],
)
def test_changed_tensors_are_refused(copied: Callable[[str], Path], study: str, predictor: str, place: str) -> None:
    bundle = copied(study)
    path = bundle / place / "network.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-5] ^= 64
    path.write_bytes(raw)
    with pytest.raises(VerificationError, match=r"network\.safetensors was changed after the bundle was made"):
        load(bundle, predictor)
    with pytest.raises(VerificationError, match="is not the file that was written: its SHA-256 differs"):
        load(sealed(bundle), predictor)


@pytest.mark.parametrize(
    ("study", "predictor", "place", "tensor"),
    [
        ("xray", "fused", f"{NET}/seed-1", "head"),
        ("xray", "fused", f"{NET}/seed-0", "tokens"),
        ("tiles", "tuned", "predictors/tuned/seed-0", "encoders"),
    ],
)
def test_tensors_that_answer_otherwise_are_refused(
    copied: Callable[[str], Path], study: str, predictor: str, place: str, tensor: str
) -> None:
    bundle = copied(study)
    path = bundle / place / "network.safetensors"
    tensors = load_file(path)
    name = next(key for key in sorted(tensors) if key.startswith(tensor) and tensors[key].dtype == np.float32)
    tensors[name] = tensors[name] + np.float32(0.05)
    save_file(tensors, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    edit(bundle, f"{place}/network.json", lambda d: d.update(sha256=digest))
    with pytest.raises(VerificationError, match=f"the model of '{predictor}' does not reproduce its golden cases"):
        load(bundle, predictor)


def test_a_changed_stack_is_refused_alone(copied: Callable[[str], Path]) -> None:
    bundle = edit(copied("xray"), "predictors/both/model.json", lambda d: d.update(weights=[0.6, 0.4]))
    with pytest.raises(VerificationError, match="the model of 'both' does not reproduce its golden cases"):
        load(bundle, "both")
    assert load(bundle, "fused").predict_one(CELLS).ok


SCHEMA, MODEL_FILE, RECIPE = "schema.json", f"{NET}/model.json", "recipe.json"


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        (SCHEMA, lambda d: d["predictors"]["fused"]["encode"].clear(), "'alp' enters as .*kit.* in the model"),
        (SCHEMA, lambda d: d["predictors"]["fused"].update(inputs=["xray", "age", "alp"]), "the schema feeds it"),
        (SCHEMA, lambda d: d["predictors"]["fused"]["encoders"]["xray"].update(size=64), "has other settings"),
        (SCHEMA, lambda d: d["inputs"]["xray"].update(orientation="free"), "takes other views of 'xray'"),
        (SCHEMA, lambda d: d["target"].update(positive="good", negative="bad"), r"predicts \['bad'\]"),
        (RECIPE, lambda d: d["images"]["fused.xray"].update(pixels="pixels-0"), "computed with pixels 'pixels-0'"),
        (RECIPE, lambda d: d["images"]["fused.xray"]["drawing"].update(version="x"), "computed with drawing"),
        (RECIPE, lambda d: d["images"].clear(), "does not say how the vectors of 'xray' were computed"),
        (MODEL_FILE, lambda d: d["encoders"]["xray"]["embedding"].update(scale="native"), "takes other views"),
        (MODEL_FILE, lambda d: d.pop("sources"), "cannot be read: KeyError"),
    ],
)
def test_parts_that_contradict_each_other_are_refused(
    copied: Callable[[str], Path], name: str, change: Callable[[Any], object], words: str
) -> None:
    bundle = edit(copied("xray"), name, change)
    with pytest.raises(VerificationError, match=words):
        load(bundle, "fused")


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        (
            SCHEMA,
            lambda d: d["target"].update(tree=["stroma", {"tumour": ["alive", "dead"]}]),
            "other trees of classes",
        ),
        (RECIPE, lambda d: d["tiles"]["texture"].update(version=0), "'texture' were computed with version 0"),
        (RECIPE, lambda d: d["tiles"]["texture"]["settings"].update(bin_width=5), "computed with settings"),
        (RECIPE, lambda d: d["tiles"].clear(), "does not say how the features of 'texture' were computed"),
        (SCHEMA, lambda d: d["inputs"]["texture"].update(mask="tissue"), "computed with settings|does not compute"),
    ],
)
def test_a_bundle_of_tiles_that_would_measure_something_else_is_refused(
    copied: Callable[[str], Path], name: str, change: Callable[[Any], object], words: str
) -> None:
    bundle = edit(copied("tiles"), name, change)
    with pytest.raises(VerificationError, match=words):
        load(bundle, "net")


def test_made_pictures_are_the_same_everywhere() -> None:
    # Written down once: other bits would refuse every bundle that exists.
    assert raw_uniform(0, 2).tolist() == pytest.approx([0.6369616873214543, 0.2697867137638703], abs=1e-16)
    assert hashlib.sha256(made_picture(0, 240).tobytes()).hexdigest()[:16] == "1c8671da072f1579"
    assert made_picture(0, 240).std() > 30
    assert (made_picture(0, 240) != made_picture(1, 240)).mean() > 0.9
