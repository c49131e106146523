"""The slide predictor: prepared slides, fitting on patients apart, files, segmentation of a slide."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from slide_designs import RECIPE, cases

from osml.errors import InvalidInputError, VerificationError
from osml.imaging.errors import AnnotationError, ScaleError
from osml.imaging.slides_classes import NOTHING, PAPER_CLASSES
from osml.predictors.slide_recipe import SlideEncoder, SlideRecipe, recipe_facts, recipe_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from osml.synthetic.slides import write_slides

    out = tmp_path_factory.mktemp("slides")
    write_slides(out, patients=3, seed=5, max_slides=1, sides=(1024, 1024), workers=1)
    return out


@pytest.fixture(scope="module")
def prepared(folder: Path, tmp_path_factory: pytest.TempPathFactory):
    from osml.predictors.slide_prepare import prepare_slide

    cache = tmp_path_factory.mktemp("cache")
    return [prepare_slide(case, RECIPE, cache=cache, device="cpu") for case in cases(folder)]


@pytest.fixture(scope="module")
def fitted(prepared):
    from osml.predictors.slide_fit import fit_slide

    return fit_slide(prepared, RECIPE, seed=3, device="cpu")


@pytest.fixture(scope="module")
def saved(fitted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model")
    fitted.save(out)
    return out


def test_a_recipe_survives_json() -> None:
    assert recipe_of(json.loads(json.dumps(recipe_facts(RECIPE)))) == RECIPE


@pytest.mark.parametrize(
    "change, words",
    [
        ({"stride_um": 100.0}, "multiple of 16 µm"),
        ({"stride_um": 256.0}, "at most the size"),
        ({"viable": ("XX",)}, "counts XX"),
        ({"viable": ("BG",)}, "background"),
        ({"viable": ()}, "or neither"),
        ({"classes": PAPER_CLASSES[:1]}, "one class"),
        ({"refine": "better"}, "brownian_bridge"),
        ({"min_tissue": 1.5}, "min_tissue 1.5"),
    ],
)
def test_recipes_that_are_none(change: dict, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        replace(RECIPE, **change)


def test_the_default_encoder_looks_at_textures() -> None:
    plain, tuned = SlideEncoder(), SlideEncoder(tune="lora", alpha=32.0)
    assert plain.settings().layers == ("blocks.3", "blocks.4")
    assert plain.copies == 1
    assert tuned.settings().layers == ()
    assert tuned.copies == 0
    assert (tuned.settings().lora_rank, tuned.settings().lora_alpha) == (16, 32.0)


def test_a_prepared_slide_is_kept_and_agrees_with_its_truth(folder: Path, prepared) -> None:
    from PIL import Image

    from osml.predictors.slide_prepare import prepare_slide

    first = prepared[0]
    again = prepare_slide(first.case, RECIPE, cache=first.folder.parents[2], device="cpu")
    assert again.folder == first.folder
    assert first.frame.shape == (32, 32)
    assert first.picture.shape == (32, 32, 3)
    truth = np.asarray(Image.open(folder / f"masks/{first.case.slide}.png"))
    # Cells of 32 px; the mask has 8 px: the middle of a cell.
    assert np.array_equal(first.labels, truth[2::4, 2::4])
    # The mask of tissue is found from the picture, and is near the true one: edges are ragged, pieces pale.
    seen, drawn = np.asarray(first.tissue) >= 128, np.asarray(first.labels) != 0
    assert (seen & drawn).sum() / (seen | drawn).sum() > 0.7
    # Most of some tiles is glass; their class is that of their tissue, unless that was taken for tissue wrongly.
    known = np.asarray(first.tile_labels)
    assert (known == 0).sum() <= 1
    assert (known > 0).sum() >= 10
    assert first.vectors.shape == (len(first.tiles), 1, first.vectors.shape[2])


def test_other_annotations_are_other_slides(folder: Path, prepared, tmp_path: Path) -> None:
    from osml.predictors.slide_prepare import prepare_slide

    cache = prepared[0].folder.parents[2]
    drawn = prepare_slide(cases(folder, masks=False)[0], RECIPE, cache=cache, device="cpu")
    assert drawn.folder != prepared[0].folder
    glass = np.asarray(prepared[0].labels) == 0
    assert (np.asarray(drawn.labels)[glass] == NOTHING).all()
    bare = prepare_slide(replace(prepared[0].case, annotation=None), RECIPE, cache=cache, device="cpu")
    assert not bare.annotated
    assert np.array_equal(bare.vectors, prepared[0].vectors[:, :1])
    with pytest.raises(AnnotationError, match="no such file"):
        prepare_slide(replace(prepared[0].case, annotation=tmp_path / "x.png"), RECIPE, cache=cache, device="cpu")
    with pytest.raises(ScaleError):
        prepare_slide(replace(prepared[0].case, mpp=4.0), RECIPE, cache=cache, device="cpu")


def test_overlapping_tiles(folder: Path, prepared, fitted) -> None:
    from osml.predictors.slide_prepare import prepare_slide

    recipe = replace(RECIPE, stride_um=64.0)
    case = replace(prepared[0].case, annotation=None)
    close = prepare_slide(case, recipe, cache=prepared[0].folder.parents[2], device="cpu")
    assert close.frame.shape == prepared[0].frame.shape
    assert len(close.tiles) > len(prepared[0].tiles)
    found = fitted.coarse(close)
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-5)


def test_choices_are_made_on_inner_patients(prepared, fitted) -> None:
    facts = fitted.record()
    assert facts["patients"] == 3
    assert facts["inner_folds"] == 2
    assert facts["refiner"] == "majority"
    losses = facts["inner_loss"]
    assert losses[facts["epochs"] - 1] == min(losses)
    assert sum(facts["tiles_of_class"].values()) == facts["tiles"]
    assert not any(case.slide in json.dumps(facts) for case in (p.case for p in prepared))


def test_the_same_seed_gives_the_same_predictor(prepared, fitted) -> None:
    from osml.predictors.slide_fit import fit_slide

    assert fit_slide(prepared, RECIPE, seed=3, device="cpu").identity == fitted.identity
    assert fit_slide(prepared, RECIPE, seed=4, device="cpu").identity != fitted.identity


def test_maps_are_probabilities(prepared, fitted) -> None:
    coarse, refined = fitted.coarse(prepared[0]), fitted.refined(prepared[0])
    for one in (coarse, refined):
        assert one.shape == (7, 32, 32)
        assert one.dtype == np.float32
        np.testing.assert_allclose(one.sum(axis=0), 1, atol=1e-4)
        assert (one[0][np.asarray(prepared[0].tissue) == 0] == 1).all()


def test_too_few_patients(prepared) -> None:
    from osml.predictors.slide_fit import fit_slide

    with pytest.raises(InvalidInputError, match="1 training patients"):
        fit_slide(prepared[:1], RECIPE, seed=0, device="cpu")


def test_files_without_pickle(prepared, fitted, saved: Path, tmp_path: Path) -> None:
    from osml.predictors.slide import load_slide

    assert sorted(p.name for p in saved.iterdir()) == ["refiner.json", "slide.json", "slide.safetensors"]
    again = load_slide(saved)
    assert np.array_equal(again.refined(prepared[0]), fitted.refined(prepared[0]))
    assert again.record() == json.loads(json.dumps(fitted.record()))
    assert again.identity == fitted.identity
    for name in ("refiner.json", "slide.json", "slide.safetensors"):
        (tmp_path / name).write_bytes((saved / name).read_bytes())
    (tmp_path / "slide.safetensors").write_bytes(b"changed")
    with pytest.raises(VerificationError, match="SHA-256"):
        load_slide(tmp_path)
    with pytest.raises(VerificationError, match="no slide predictor"):
        load_slide(tmp_path / "elsewhere")


def test_a_slide_is_segmented(prepared, fitted, tmp_path: Path) -> None:
    from osml.imaging.slides_geojson import read_geojson
    from osml.predictors.slide_evaluate import read_map
    from osml.predictors.slide_segment import segment_slide

    case = prepared[0].case
    result = segment_slide(fitted, case, tmp_path / "a", cache=None, device="cpu", probabilities=True)
    names = {p.name for p in (tmp_path / "a").iterdir()}
    assert names == {
        "classes.ome.tif", "classes.geojson", "overlay.png", "thumbnail.png", "areas.csv", "blocks.csv", "slide.json",
        "probabilities.ome.tif",
    }  # fmt: skip
    labels = read_map(tmp_path / "a" / "classes.ome.tif")
    expected = fitted.refined(prepared[0]).argmax(axis=0)
    assert np.array_equal(labels, expected)
    cell_mm2 = (prepared[0].frame.mpp / 1000) ** 2
    assert result.areas_mm2["VT"] == pytest.approx(float((expected == 1).sum()) * cell_mm2)
    counted = np.isin(expected, [1, 2, 3, 4, 5]).sum()
    assert result.rate == pytest.approx(np.isin(expected, [2, 3, 4, 5]).sum() / counted)
    assert result.facts["necrosis"]["necrotic"] == ["NC", "FH", "HC", "IF"]
    assert "not a pathology report" in result.facts["statement"]
    assert "not asserted" in result.facts["grade"]
    assert result.facts["foci"]["for_review"] == result.facts["foci"]["viable"]
    drawn = read_geojson(tmp_path / "a" / "classes.geojson")
    assert len(drawn) == result.facts["outlines"]
    assert "BG" not in {one.name for one in drawn}
    again = segment_slide(fitted, case, tmp_path / "b", cache=None, device="cpu", probabilities=True)
    assert again.facts == result.facts
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_a_rate_that_nobody_asked_for(prepared, fitted) -> None:
    bare = SlideRecipe(PAPER_CLASSES, encoder=RECIPE.encoder)
    assert bare.bed is None
    assert RECIPE.bed is not None
    assert RECIPE.bed.viable == (1,)
