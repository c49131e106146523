"""Radiomics: features of a lesion and of rings around it, value by value those of PyRadiomics 3.0.1.

`extract(image, mask, settings)` needs the extra `radiomics` (numba, SimpleITK, PyWavelets, pillow).
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from osml.errors import MissingExtraError, missing_extra
from osml.imaging.volume import Volume
from osml.radiomics.settings import Settings, read_settings, settings_from

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Settings", "Volume", "extract", "read_settings", "require_packages", "settings_from"]


def extract(
    image: Volume, mask: Volume, settings: Settings | None = None, *, body: Volume | None = None
) -> pd.DataFrame:
    """Features of a lesion and its regions, one row per region: see `osml.radiomics.extraction.extract`."""
    settings = settings or Settings()
    require_packages(settings)
    from osml.radiomics.extraction import extract as run

    return run(image, mask, settings, body=body)


def require_packages(settings: Settings) -> None:
    """MissingExtraError, with the install line, where a package that the settings need is not installed."""
    for module, package in (("numba", "numba"), ("SimpleITK", "SimpleITK"), ("pywt", "PyWavelets")):
        if importlib.util.find_spec(module) is None:
            raise missing_extra(package, "radiomics", "radiomics")
    if settings.engine == "pyradiomics" and importlib.util.find_spec("radiomics") is None:
        raise MissingExtraError(
            "PyRadiomics is not installed; it is needed for `engine: pyradiomics`.",
            do="Install it with: pip install pyradiomics-cuda==1.0.4 (its wheel is built by a C compiler), "
            "or use `engine: osml`, which gives the same values.",
        )
