"""`engine: pyradiomics`: the same windows and regions, filtered and measured by PyRadiomics itself."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from osml.imaging.errors import RegionError
from osml.imaging.volume import Volume, to_sitk
from osml.radiomics.classes import TEXTURE, feature_names
from osml.radiomics.regions import Region
from osml.radiomics.settings import Settings

IMAGE_TYPES = {
    "original": "Original", "wavelet": "Wavelet", "log": "LoG", "square": "Square", "squareroot": "SquareRoot",
    "logarithm": "Logarithm", "exponential": "Exponential", "gradient": "Gradient",
}  # fmt: skip


def pyradiomics_features(image: Volume, region: Region, settings: Settings, images: Sequence[str]) -> dict[str, float]:
    """Every feature of one region by PyRadiomics' names, in the order of `extract`.

    Parameters
    ----------
    image : Volume, normalised and resampled already; handed over in float64 (PyRadiomics bins unsigned bytes wrongly
        with NumPy 2)
    region : on the image's grid
    settings : filters, classes, bins and `in_plane` are used
    images : names of the filtered images, in order

    Raises
    ------
    RegionError
        PyRadiomics cannot take a region that covers the whole image.
    """
    if region.inside.all():
        raise RegionError(
            f"{image.name}: region {region.name} covers the whole image, which PyRadiomics cannot measure",
            do="Use `engine: osml`.",
        )
    radiomics: Any = importlib.import_module("radiomics")
    featureextractor: Any = importlib.import_module("radiomics.featureextractor")
    radiomics.setVerbosity(logging.CRITICAL)
    bins = {"binWidth": settings.bin_width} if settings.bin_count is None else {"binCount": settings.bin_count}
    extractor: Any = featureextractor.RadiomicsFeatureExtractor(
        **bins, force2D=settings.in_plane, minimumROISize=1, additionalInfo=False
    )
    extractor.disableAllImageTypes()
    for name in settings.filters:
        extra = {"sigma": list(settings.log_sigma_mm)} if name == "log" else {}
        extractor.enableImageTypeByName(IMAGE_TYPES[name], customArgs=extra)
    extractor.disableAllFeatures()
    flat = image.array.ndim == 2
    for name in settings.classes:
        extractor.enableFeatureClassByName("shape2D" if flat and name == "shape" else name)
    whole = image.like(np.asarray(image.array, dtype=np.float64))
    found = extractor.execute(to_sitk(whole), to_sitk(image.like(region.inside)), label=1)
    values = {name: float(value) for name, value in found.items() if not name.startswith("diagnostics")}
    shapes = sorted(name for name in values if name.startswith(("original_shape_", "original_shape2D_")))
    texture = feature_names(tuple(name for name in ("firstorder", *TEXTURE) if name in settings.classes))
    return {name: values[name] for name in (*shapes, *(f"{image}_{name}" for image in images for name in texture))}
