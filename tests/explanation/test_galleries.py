"""Grad-CAM of fitted networks and galleries: planted patches, crops, signs; a run on disk and what it gives away."""

from __future__ import annotations

import csv
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from encoder_files import tiny_encoder, weights_file
from explained_networks import BINARY, made_cohort
from PIL import Image
from torch import nn

from osml.cohort.cohort import BinaryOutcome, Cohort, ImageTable
from osml.cohort.splits import Fold, folds_to_json
from osml.explanation.cam import unit_heat
from osml.explanation.networks import explain_network_run, write_gallery
from osml.features.images import image_plan
from osml.files import read_json, write_json
from osml.nets.embeddings import EmbeddingSettings, embed_images
from osml.nets.encoders import Encoder, EncoderSettings, build_encoder
from osml.nets.network import build_network
from osml.nets.recipe import ClassTarget, NetworkRecipe
from osml.predictors.contract import Design
from osml.predictors.network import Calibration, EncoderRecord, FittedNetwork
from osml.predictors.network_inputs import ImageSource, modality
from osml.runs.cohort_store import write_cohort
from osml.runs.store import PredictionRow, write_predictions
from osml.schema.model import Schema

SIZE, PATCH = 96, 28
Corner = tuple[int, int]


def picture(corner: Corner | None, seed: int, shape: Corner = (SIZE, SIZE)) -> np.ndarray:
    """Dim noise, with a bright square at a corner (y, x)."""
    out = np.random.default_rng(seed).integers(40, 90, (*shape, 3), dtype=np.uint8)
    if corner is not None:
        out[corner[0] : corner[0] + PATCH, corner[1] : corner[1] + PATCH] = 235
    return out


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return tiny_encoder(tmp_path_factory.mktemp("weights"), "test_resnet", size=SIZE)


def patch_network(encoder: Encoder, settings: EmbeddingSettings, reduce: str = "mean") -> FittedNetwork:
    """Log odds along what a patch changes in the pictures' vectors: class means, nothing is trained."""
    rng = np.random.default_rng(0)
    vectors = []
    for with_patch in (True, False):
        corners = [tuple(rng.integers(0, SIZE - PATCH, 2)) if with_patch else None for _ in range(24)]
        images = np.stack([picture(c, 50 + k) for k, c in enumerate(corners)])  # type: ignore[arg-type]
        with torch.inference_mode():
            vectors.append(encoder(torch.tensor(images).permute(0, 3, 1, 2)).clone())
    direction = vectors[0].mean(0) - vectors[1].mean(0)
    weight = direction / (vectors[0].var(0) + vectors[1].var(0) + 1e-3)
    if settings.scale == "native":
        weight = torch.cat([weight, weight])
    source = ImageSource("picture", "picture@x", settings.width(encoder))
    recipe = NetworkRecipe((modality(source, reduce),), ClassTarget(BINARY))  # type: ignore[arg-type]
    network = build_network(recipe, seed=0)
    first, second = network.head[0], network.head[3]
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    with torch.no_grad():
        for layer in (first, second):
            layer.weight.zero_()
            layer.bias.zero_()
        # w'x as max(w'x, 0) - max(-w'x, 0)
        first.weight[0], first.weight[1] = weight, -weight
        second.weight[1, 0], second.weight[1, 1] = 1.0, -1.0
    record = EncoderRecord(asdict(EncoderSettings("test_resnet")), asdict(settings), encoder.record.as_json())
    return FittedNetwork(
        "net", "binary", ("bad",), BINARY, (), "", (source,), {"picture": record}, recipe, (network.eval(),),
        Calibration("none"),
    )  # fmt: skip


def unit(pictures: int, settings: EmbeddingSettings, encoder: Encoder) -> Cohort:
    """One unit with that many pictures, whose vectors are not looked at."""
    vectors = np.zeros((pictures, settings.views, settings.width(encoder)), dtype=np.float32)
    rows = np.zeros(pictures, dtype=np.intp)
    return replace(made_cohort(1), images={"picture@x": ImageTable(vectors, np.arange(pictures), rows)})


def peak(heat: np.ndarray) -> Corner:
    y, x = np.unravel_index(int(heat.argmax()), heat.shape)
    return int(y), int(x)


def on_patch(place: Corner, corner: Corner, cell: int) -> bool:
    return all(c - cell <= p < c + PATCH + cell for p, c in zip(place, corner, strict=True))


@pytest.mark.parametrize("orientation", ["fixed", "free"])
def test_the_heat_lies_on_the_planted_patch(encoder: Encoder, orientation: str) -> None:
    settings = EmbeddingSettings("resize", orientation)  # type: ignore[arg-type]
    fitted = patch_network(encoder, settings)
    hits = []
    for k, corner in enumerate([(2, 4), (60, 6), (8, 62), (64, 60), (34, 34), (10, 36)]):
        heat = unit_heat(
            fitted, unit(1, settings, encoder), {"picture": [picture(corner, k)]}, "bad", encoders={"picture": encoder}
        )
        found = heat.maps["picture"][0]
        assert found.shape == (SIZE, SIZE)
        assert found.max() == pytest.approx(1)
        hits.append(on_patch(peak(found), corner, SIZE // 3))
    assert sum(hits) >= 5


def test_crops_are_put_back_where_they_were_cut(encoder: Encoder) -> None:
    settings = EmbeddingSettings("native")
    fitted = patch_network(encoder, settings)
    shape = (2 * SIZE, 2 * SIZE + 40)  # neighbours overlap
    for k, corner in enumerate([(10, 12), (130, 20), (16, 190), (140, 170)]):
        heat = unit_heat(
            fitted, unit(1, settings, encoder), {"picture": [picture(corner, k, shape)]}, "bad",
            encoders={"picture": encoder},
        )  # fmt: skip
        found = heat.maps["picture"][0]
        assert found.shape == shape
        assert on_patch(peak(found), corner, SIZE // 3)


def test_the_picture_with_the_patch_is_the_warmer_one(encoder: Encoder) -> None:
    settings = EmbeddingSettings()
    fitted = patch_network(encoder, settings, "max")
    both = {"picture": [picture(None, 1), picture((30, 30), 2)]}
    heat = unit_heat(fitted, unit(2, settings, encoder), both, "bad", encoders={"picture": encoder})
    assert heat.maps["picture"][1].max() == pytest.approx(1)
    assert heat.maps["picture"][0].max() < 0.8


def test_against_is_the_heat_of_the_opposite_score(encoder: Encoder) -> None:
    settings = EmbeddingSettings()
    fitted = patch_network(encoder, settings)
    turned = replace(fitted, calibration=Calibration("platt", (0.0, -1.0)))
    given = unit(1, settings, encoder), {"picture": [picture((30, 30), 2)]}, "bad"
    against = unit_heat(fitted, *given, against=True, encoders={"picture": encoder})
    opposite = unit_heat(turned, *given, encoders={"picture": encoder})
    assert against.score == pytest.approx(-opposite.score)
    assert against.maps["picture"][0] == pytest.approx(opposite.maps["picture"][0], abs=1e-5)


def test_the_score_is_that_of_the_prediction(encoder: Encoder, tmp_path: Path) -> None:
    settings = EmbeddingSettings("native", "free")
    fitted = patch_network(encoder, settings)
    pixels = picture((30, 60), 3, (120, 150))
    Image.fromarray(pixels).save(tmp_path / "p.png")
    vectors = embed_images([tmp_path / "p.png"], encoder, settings).values
    table = ImageTable(vectors, np.zeros(1, dtype=np.intp), np.zeros(1, dtype=np.intp))
    cohort = replace(made_cohort(1), images={"picture@x": table}, outcome=None)
    heat = unit_heat(fitted, cohort, {"picture": [pixels]}, "bad", encoders={"picture": encoder})
    assert heat.score == pytest.approx(float(fitted.predict(Design(cohort)).lp[0]), rel=1e-4)


N = 8


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two folds as `fit` leaves it, made by hand: half of the patients have a patch, two are mislabelled."""
    folder = tmp_path_factory.mktemp("study")
    weights = weights_file(folder, "test_resnet")
    block = {"model": "test_resnet", "weights": str(weights), "size": SIZE}
    schema = Schema.model_validate(
        {
            "version": 1, "name": "patches", "study": {"sampling": "cohort"}, "time_of_prediction": "now",
            "times": ["now"], "cohort": {"table": "table.csv", "patient": "id"},
            "target": {"kind": "binary", "column": "y", "positive": "bad", "negative": "good"},
            "inputs": {"picture": {"kind": "image", "available": "now"}},
            "predictors": {"net": {"kind": "network", "inputs": ["picture"], "encoders": {"picture": block}}},
            "validation": {"split": {"kind": "kfold", "folds": 2}, "seed": 3},
        }
    )  # fmt: skip
    plan = image_plan(schema, "net", "picture")
    encoder = build_encoder(plan.settings())
    fitted = patch_network(encoder, plan.embedding())
    source = replace(fitted.sources[0], key=plan.key)
    facts = {**asdict(plan.settings()), "weights": None}
    record = EncoderRecord(facts, asdict(plan.embedding()), encoder.record.as_json())
    fitted = replace(fitted, sources=(source,), encoders={"picture": record})
    names = [f"SECRET-{k:03d}" for k in range(N)]
    for k in range(N):
        Image.fromarray(picture((20, 40) if k % 2 else None, k)).save(folder / f"{k}.png")
    vectors = embed_images([folder / f"{k}.png" for k in range(N)], encoder, plan.embedding()).values
    np.save(folder / "vectors.npy", vectors)
    y = np.array([k % 2 for k in range(N)], dtype=np.float64)
    y[:2] = 1 - y[:2]
    cohort = Cohort(
        units=tuple(names), patients=tuple(names), copies=np.zeros(N, dtype=np.intp), values={}, kit={}, keys={},
        outcome=BinaryOutcome(y, "bad", "good"), files={"picture": tuple(f"{k}.png" for k in range(N))},
        images={plan.key: ImageTable(folder / "vectors.npy", np.arange(N), np.arange(N))},
    )  # fmt: skip
    path = folder / "run"
    write_cohort(path / "cohort" / "cohort.parquet", cohort)
    write_json(path / "schema.resolved.json", schema.model_dump(mode="json"))
    write_json(path / "cohort" / "source.json", {"folder": str(folder)})
    half = names[: N // 2], names[N // 2 :]
    folds = [Fold(0, k, tuple(half[1 - k]), tuple(half[k])) for k in (0, 1)]
    write_json(path / "splits.json", folds_to_json(folds))
    rows = []
    # The constant that puts the line between pictures with and without a patch.
    lp = fitted.predict(Design(cohort.without_outcome())).lp
    fitted = replace(fitted, calibration=Calibration("platt", (-float(lp[1::2].mean() + lp[::2].mean()) / 2, 1.0)))
    for fold in folds:
        place = path / "folds" / fold.name / "net"
        fitted.save(place)
        write_json(place / "status.json", {"state": "done"})
        told = fitted.predict(Design(cohort.of(fold.test).without_outcome()))
        rows += [
            PredictionRow("net", 0, fold.index, u, u, "bad", float(p), float(v), None, None, "none")
            for u, p, v in zip(told.units, told.p[:, 0], told.lp, strict=True)
        ]
    write_predictions(path / "predictions.parquet", rows)
    return path


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSML_CACHE", str(tmp_path / "cache"))


def test_the_gallery_shows_right_and_wrong_cases_and_no_id(run: Path) -> None:
    told: list[str] = []
    found = explain_network_run(run, "net", say=told.append)
    picture_file = run / found["gallery"]["file"]
    assert picture_file == run / "report" / "figures" / "gallery_net.png"
    assert Image.open(picture_file).size[0] == pytest.approx(7.2 * 300, abs=2)
    with picture_file.with_suffix(".csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    kinds = [(row["class_predicted"], row["kind"]) for row in rows]
    assert kinds.count(("good", "wrong")) == kinds.count(("bad", "wrong")) == 1
    assert kinds.count(("good", "right")) == kinds.count(("bad", "right")) == 3
    assert {row["truth"] for row in rows if row["kind"] == "wrong"} == {"good", "bad"}
    assert len({row["patient"] for row in rows}) == N
    assert b"SECRET" not in picture_file.read_bytes()
    assert "SECRET" not in picture_file.with_suffix(".csv").read_text()
    assert "SECRET" not in str(found)
    assert found["reasons"].keys() == {"contributions", "shap"}
    assert any(line.startswith("gallery") for line in told)


def test_a_gallery_is_drawn_once_and_equal_runs_give_equal_bytes(run: Path) -> None:
    first = write_gallery(run, "net")
    picture_file = run / first["file"]
    stamp, data = picture_file.stat().st_mtime_ns, picture_file.read_bytes()
    assert write_gallery(run, "net") == first
    assert picture_file.stat().st_mtime_ns == stamp
    picture_file.unlink()
    assert write_gallery(run, "net") == first
    assert picture_file.read_bytes() == data


def test_pictures_that_changed_are_not_explained(run: Path) -> None:
    root = Path(read_json(run / "cohort" / "source.json")["folder"])
    record = run / "explanation" / "net" / "gallery.json"
    record.unlink(missing_ok=True)
    before = (root / "7.png").read_bytes()
    Image.fromarray(picture(None, 99)).save(root / "7.png")
    try:
        assert "give a score" in write_gallery(run, "net")["reason"]
        (root / "7.png").unlink()
        assert "no such file" in write_gallery(run, "net")["reason"]
    finally:
        (root / "7.png").write_bytes(before)
