"""Radiomics: features of a lesion and of rings around it, value by value those of PyRadiomics 3.0.1.

`extract(image, mask, settings)` needs the extra `radiomics` (numba, SimpleITK, PyWavelets, pillow).
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from osml.errors import missing_extra
from osml.imaging.volume import Volume
from osml.radiomics.settings import Settings, read_settings, settings_from

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Settings", "Volume", "extract", "read_settings", "settings_from"]


def extract(
    image: Volume, mask: Volume, settings: Settings | None = None, *, body: Volume | None = None
) -> pd.DataFrame:
    """Features of a lesion and its regions, one row per region: see `osml.radiomics.extraction.extract`."""
    for module, package in (("numba", "numba"), ("SimpleITK", "SimpleITK"), ("pywt", "PyWavelets")):
        if importlib.util.find_spec(module) is None:
            raise missing_extra(package, "radiomics", "radiomics")
    from osml.radiomics.extraction import extract as run

    return run(image, mask, settings, body=body)
