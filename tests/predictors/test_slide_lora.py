"""An encoder tuned by low-rank additions on the tiles of slides: trained, saved, found again, used on a slide."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the nets extra is not installed")
pytest.importorskip("tifffile", reason="the slides extra is not installed")
import torch
from encoder_files import weights_file
from slide_designs import RECIPE, cases

from osml.predictors.slide_recipe import HeadRecipe, SlideEncoder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from osml.synthetic.slides import write_slides

    out = tmp_path_factory.mktemp("slides")
    write_slides(out, patients=3, seed=5, max_slides=1, sides=(1024, 1024), workers=1)
    return out


@pytest.mark.full
def test_low_rank_additions_are_trained_saved_and_used(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from osml.predictors.slide import load_slide, tile_probabilities
    from osml.predictors.slide_fit import fit_slide
    from osml.predictors.slide_prepare import prepare_slide
    from osml.predictors.slide_segment import segment_slide

    weights = weights_file(tmp_path, "test_vit")
    monkeypatch.setenv("OSML_WEIGHTS", str(tmp_path))
    encoder = SlideEncoder("test_vit", str(weights), tune="lora", rank=2)
    recipe = replace(RECIPE, encoder=encoder, head=HeadRecipe(hidden=16, epochs=2, encoder_rate=1e-2))
    prepared = [prepare_slide(case, recipe, cache=tmp_path / "cache", device="cpu") for case in cases(folder)]
    fitted = fit_slide(prepared, recipe, seed=3, device="cpu")
    again = fit_slide(prepared, recipe, seed=3, device="cpu")
    assert fitted.tuned, "nothing of the encoder was trained"
    # The additions begin at zero in one of their two matrices; training moved them.
    assert all(float(value.abs().max()) > 0 for value in fitted.tuned.values())
    assert all(torch.equal(fitted.tuned[name], again.tuned[name]) for name in fitted.tuned)

    fitted.save(tmp_path / "model")
    loaded = load_slide(tmp_path / "model")
    first = prepared[0]
    p = tile_probabilities(fitted, first, device="cpu")
    assert p.shape == (len(first.tiles), len(recipe.classes))
    np.testing.assert_allclose(tile_probabilities(loaded, first, device="cpu"), p, atol=1e-6)
    nothing = {name: torch.zeros_like(value) for name, value in fitted.tuned.items()}
    plain = replace(fitted, tuned=nothing, _built={})
    assert not np.allclose(tile_probabilities(plain, first, device="cpu"), p, atol=1e-4)

    result = segment_slide(loaded, first.case, tmp_path / "out", cache=tmp_path / "cache", device="cpu")
    assert (tmp_path / "out" / "classes.ome.tif").is_file()
    assert sum(result.areas_mm2.values()) > 0
