"""`engine: pyradiomics`: the same table, by the original library."""

from __future__ import annotations

import importlib.util

import numpy as np
import pandas as pd
import pytest
from helpers import require
from radiomics_data import blob

from osml.errors import InvalidInputError, MissingExtraError
from osml.imaging.errors import GreyLevelError, RegionError
from osml.radiomics import Settings, extract

ALL = ("original", "wavelet", "log", "square", "squareroot", "logarithm", "exponential", "gradient")


def both(settings: dict[str, object], spacing: tuple[float, ...] = (0.9, 1.1, 2.5)) -> list[pd.DataFrame]:
    if importlib.util.find_spec("radiomics") is None:
        require("pyradiomics", "PyRadiomics is not installed (pip install pyradiomics-cuda==1.0.4)")
    return [extract(*blob(spacing), Settings(**settings, engine=engine)) for engine in ("osml", "pyradiomics")]


@pytest.mark.full
@pytest.mark.parametrize(
    "settings",
    [
        {"crop": "compat", "filters": ALL, "log_sigma_mm": (1.0, 2.0), "max_levels": 5000},
        {"crop": "compat", "spacing_mm": (1, 1, 2), "regions": ("tumour", "0-2mm", "tumour+2mm"), "leaving": "clip"},
        {"normalise": "image", "normalise_scale": 100.0, "regions": ("tumour", "0-2mm"), "leaving": "clip"},
        {"bin_count": 16, "in_plane": True, "classes": ("glcm", "firstorder", "shape")},
    ],
)
def test_both_engines_give_one_table(settings: dict[str, object]) -> None:
    ours, theirs = both(settings)
    assert list(ours) == list(theirs)
    assert (ours.dtypes == theirs.dtypes).all()
    assert ours["region"].tolist() == theirs["region"].tolist()
    for name in list(ours)[1:]:
        rel = 1e-6 if name.endswith("MCC") else 1e-9
        assert ours[name].tolist() == pytest.approx(theirs[name].tolist(), rel=rel, abs=1e-14, nan_ok=True), name


@pytest.mark.full
def test_both_engines_on_a_picture() -> None:
    ours, theirs = both({}, (0.9, 1.1))
    assert list(ours) == list(theirs)
    assert ours.iloc[0, 1:].tolist() == pytest.approx(theirs.iloc[0, 1:].tolist(), rel=1e-9)


@pytest.mark.full
def test_both_engines_refuse_the_same() -> None:
    both({})
    image, mask = blob()
    for engine in ("osml", "pyradiomics"):
        with pytest.raises(GreyLevelError, match="single grey level"):
            extract(image.like(image.array / 100 + 3), mask, Settings(engine=engine))
    with pytest.raises(RegionError, match="covers the whole image"):
        extract(image, mask.like(np.ones_like(mask.array)), Settings(engine="pyradiomics"))


def test_what_pyradiomics_cannot_do_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="belongs to `engine: osml`"):
        Settings(engine="pyradiomics", ibsi=True)


def test_without_the_package_the_install_line_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "radiomics" else found(name))
    with pytest.raises(MissingExtraError, match="pip install pyradiomics-cuda"):
        extract(*blob(), Settings(engine="pyradiomics"))
