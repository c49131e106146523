"""Features of a histology tile, or a radiograph, of bytes: grey and stain channels in whole, tissue and nuclei."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from osml.errors import InvalidInputError
from osml.imaging.stain import RUIFROK, Plane, Stains, check_rgb, separate
from osml.imaging.tissue import Bools, Found, measure, nuclei_mask, tissue_mask
from osml.radiomics.classes import TEXTURE, feature_names, intensity_features

MASKS = ("full", "tissue", "nuclei")
CHANNELS = ("grey", "haematoxylin", "eosin")
CLASSES = ("firstorder", *TEXTURE)
# Stain densities are counted in hundredths of OD, 0 to 2.55, so that they are bytes on one scale in all tiles.
UNITS_PER_DENSITY = 100.0
MIN_PIXELS = 64
# Sizes where the scale is known. Where it is not, the masks' defaults in pixels suit about 2 µm per pixel (5×).
HOLE_UM2, SPECK_UM2, NUCLEUS_UM2 = 500.0, 200.0, 15.0
AROUND_UM, OPENING_UM = 70.0, 0.7
NUCLEI_SUMMARIES = ("Mean", "StandardDeviation", "Median", "90Percentile")


@dataclass(frozen=True)
class TileFeatures:
    """Features of one tile.

    Attributes
    ----------
    values : by name, always the same names for the same arguments; NaN where the mask is empty or too small
    reasons : mask → why its features are NaN; empty where all exist
    """

    values: dict[str, float]
    reasons: dict[str, str]


def tile_features(
    picture: NDArray[np.uint8],
    *,
    masks: Collection[str] | None = None,
    channels: Collection[str] | None = None,
    classes: Collection[str] = CLASSES,
    bin_width: float = 25.0,
    stain_bin_width: float = 10.0,
    bin_count: int | None = None,
    um_per_px: float | None = None,
    stains: Stains = RUIFROK,
    min_pixels: int = MIN_PIXELS,
) -> TileFeatures:
    """First-order and texture features per channel and mask, and the morphology of nuclei.

    Parameters
    ----------
    picture : uint8 (h, w, 3) colour or (h, w) grey
    masks : of full, tissue, nuclei; none: all, of a grey picture `full`, the only one it has
    channels : of grey (ITU-R 601 luma, rounded), haematoxylin, eosin; none: all, of a grey picture `grey`
    classes : of firstorder, glcm, gldm, glrlm, glszm, ngtdm
    bin_width : grey levels per that many grey values
    stain_bin_width : grey levels of a stain, in hundredths of OD; its first-order features are in that unit too
    bin_count : or that many levels per region and channel (then no width is used)
    um_per_px : scale; gives nuclei in µm² and per mm², else in pixels and per million pixels
    stains : vectors of the separation; one choice for all tiles of a study, or the slide's
    min_pixels : a smaller mask counts as empty

    Returns
    -------
    TileFeatures, named `haematoxylin|nuclei|original_glcm_JointEntropy`. With the mask tissue also `tissue_share`; with
    nuclei `nuclei_count`, `nuclei_density_per_…` and `nuclei_share` (of tissue), `nuclei_area_…` and
    `nuclei_eccentricity` with four summaries each, of the nuclei that the border does not cut.

    Raises
    ------
    InvalidInputError
        The picture is not of bytes, or a mask, channel or class is unknown or needs a colour picture. A blank or
        single-coloured tile does not raise.

    Examples
    --------
    >>> found = tile_features(np.full((64, 64, 3), 250, dtype=np.uint8), classes=("firstorder",))
    >>> found.values["grey|full|original_firstorder_Mean"], found.reasons["tissue"]
    (250.0, 'blank: nothing absorbs light')
    """
    colour = picture.ndim == 3
    if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or picture.size == 0:
        raise InvalidInputError(
            f"a picture of shape {picture.shape} and type {picture.dtype}; uint8 (h, w, 3) or (h, w) is expected"
        )
    masks = _chosen("masks", masks, MASKS, MASKS if colour else ("full",))
    channels = _chosen("channels", channels, CHANNELS, CHANNELS if colour else ("grey",))
    classes = _chosen("classes", classes, CLASSES, CLASSES)
    if um_per_px is not None and not 0 < um_per_px < np.inf:
        raise InvalidInputError(f"um_per_px {um_per_px}: a positive number is expected")
    if not (0 < bin_width < np.inf and 0 < stain_bin_width < np.inf):
        raise InvalidInputError(f"bin_width {bin_width} and stain_bin_width {stain_bin_width} must be positive")
    if bin_count is not None and bin_count < 2:
        raise InvalidInputError(f"bin_count {bin_count}: at least 2 is expected")
    if min_pixels < 2:
        raise InvalidInputError(f"min_pixels {min_pixels}: at least 2 are needed for a texture")
    planes, haematoxylin = _planes(picture, channels, stains) if colour else ({"grey": picture}, None)
    found = _regions(picture, haematoxylin, masks, um_per_px)
    values: dict[str, float] = {}
    reasons: dict[str, str] = {}
    for mask in masks:
        pixels = int(np.count_nonzero(found[mask].inside))
        reason = found[mask].reason
        if not reason and pixels < min_pixels:
            reason = f"{pixels} pixels; at least {min_pixels} are needed"
        if reason:
            reasons[mask] = reason
        for channel in channels:
            if reason:
                got = dict.fromkeys(feature_names(tuple(classes)), float("nan"))
            else:
                width = bin_width if channel == "grey" else stain_bin_width
                got, _ = intensity_features(
                    planes[channel], found[mask].inside, 1.0, classes=classes, bin_width=width, bin_count=bin_count
                )
            values |= {f"{channel}|{mask}|original_{name}": value for name, value in got.items()}
    if "tissue" in masks:
        values["tissue_share"] = float(found["tissue"].inside.mean())
    if "nuclei" in masks:
        values |= nuclei_features(found["nuclei"].inside, found["tissue"].inside, um_per_px=um_per_px)
    return TileFeatures(values, reasons)


def nuclei_features(nuclei: Bools, tissue: Bools, *, um_per_px: float | None = None) -> dict[str, float]:
    """Number, density, share and shapes of nuclei; NaN where there is no tissue, shapes NaN where no nucleus is whole.

    Parameters
    ----------
    nuclei, tissue : bool (h, w)
    um_per_px : as in `tile_features`
    """
    from scipy import ndimage

    label, n = ndimage.label(nuclei)
    shapes = measure(label, n)
    area = float(np.count_nonzero(tissue))
    unit, square, per = ("px", 1.0, "mpx") if um_per_px is None else ("um2", um_per_px**2, "mm2")
    nan = float("nan")
    out = {
        "nuclei_count": float(n) if area else nan,
        f"nuclei_density_per_{per}": n / (area * square) * 1e6 if area else nan,
        "nuclei_share": float(shapes.area.sum()) / area if area else nan,
    }
    whole = ~shapes.on_border
    for name, of in ((f"nuclei_area_{unit}", shapes.area * square), ("nuclei_eccentricity", shapes.eccentricity)):
        out |= {f"{name}_{summary}": value for summary, value in _summaries(of[whole]).items()}
    return out


def _summaries(values: NDArray[np.float64]) -> dict[str, float]:
    if not values.size:
        return dict.fromkeys(NUCLEI_SUMMARIES, float("nan"))
    median, high = np.percentile(values, [50, 90])
    found = (values.mean(), values.std(), median, high)
    return dict(zip(NUCLEI_SUMMARIES, map(float, found), strict=True))


def _chosen(what: str, wanted: Collection[str] | None, known: tuple[str, ...], allowed: tuple[str, ...]) -> list[str]:
    if wanted is None:
        return list(allowed)
    unknown = [name for name in wanted if name not in known]
    if unknown or not wanted or isinstance(wanted, str):
        raise InvalidInputError(f"{what} {wanted!r}: some of {', '.join(known)} are expected")
    missing = [name for name in wanted if name not in allowed]
    if missing:
        raise InvalidInputError(
            f"{what} {', '.join(missing)} need a colour picture; this one is grey",
            do=f"Ask for {', '.join(allowed)}, or leave `{what}` out.",
        )
    return [name for name in known if name in wanted]


def _planes(
    rgb: NDArray[np.uint8], channels: Collection[str], stains: Stains
) -> tuple[dict[str, NDArray[np.uint8]], Plane]:
    """Channels as bytes, and the density of haematoxylin."""
    haematoxylin, eosin, _ = separate(rgb, stains)
    out: dict[str, NDArray[np.uint8]] = {}
    if "grey" in channels:
        out["grey"] = grey_of(rgb)
    for name, plane in (("haematoxylin", haematoxylin), ("eosin", eosin)):
        if name in channels:
            out[name] = np.clip(np.rint(plane * np.float32(UNITS_PER_DENSITY)), 0, 255).astype(np.uint8)
    return out, haematoxylin


def grey_of(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """ITU-R 601 luma in 16-bit fixed point, rounded: what Pillow's `convert("L")` gives.

    >>> grey_of(np.array([[[255, 0, 0], [10, 20, 30]]], dtype=np.uint8)).tolist()
    [[76, 18]]
    """
    red, green, blue = np.ascontiguousarray(check_rgb(rgb).transpose(2, 0, 1)).astype(np.uint32)
    return ((red * 19595 + green * 38470 + blue * 7471 + 32768) >> 16).astype(np.uint8)


def _regions(
    picture: NDArray[np.uint8], haematoxylin: Plane | None, masks: Collection[str], um_per_px: float | None
) -> dict[str, Found]:
    out = {"full": Found(np.ones(picture.shape[:2], dtype=np.bool_), float("nan"))}
    if haematoxylin is None or not {"tissue", "nuclei"} & set(masks):
        return out
    if um_per_px is None:
        out["tissue"] = tissue_mask(picture)
        out["nuclei"] = nuclei_mask(haematoxylin, out["tissue"].inside)
        return out
    square = um_per_px**2
    out["tissue"] = tissue_mask(picture, min_area_px=SPECK_UM2 / square, max_hole_px=HOLE_UM2 / square)
    out["nuclei"] = nuclei_mask(
        haematoxylin, out["tissue"].inside, min_area_px=NUCLEUS_UM2 / square,
        around_px=max(3, round(AROUND_UM / um_per_px)), opening_px=round(OPENING_UM / um_per_px),
    )  # fmt: skip
    return out
