"""What to extract: one frozen object, from a YAML file or from Python."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from osml.errors import InvalidInputError

CLASSES = ("firstorder", "shape", "glcm", "glrlm", "glszm", "gldm", "ngtdm")
FILTER_NAMES = ("original", "wavelet", "log", "square", "squareroot", "logarithm", "exponential", "gradient")
_RING = re.compile(r"(tumour\+)?(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)mm|tumour\+(\d+(?:\.\d+)?)mm")
# The seven regions of an MRI study of chemotherapy response: tumour, three cumulative rings, tumour with each ring.
MRI_RINGS = ("tumour", "0-2mm", "0-4mm", "0-6mm", "tumour+2mm", "tumour+4mm", "tumour+6mm")


@dataclass(frozen=True)
class Settings:
    """Settings of an extraction; every field changes the values or what is refused.

    Attributes
    ----------
    filters : of original, wavelet (coif1), log, square, squareroot, logarithm, exponential, gradient
    log_sigma_mm : widths of `log`; cost: one filtered image each
    classes : of firstorder, shape, glcm, glrlm, glszm, gldm, ngtdm. `shape` is 3D for volumes, 2D for pictures
    regions : `tumour`; `A-Bmm`, the ring from A to B mm outside the mask surface; `tumour+Bmm`, mask and ring 0-B
    bin_width : grey levels per that many intensity units, in every filtered image
    bin_count : or that many levels per region and image (then `bin_width` is not used)
    spacing_mm : grid to resample to, x, y(, z): image by cubic B-spline, masks by nearest neighbour; none: as stored
    normalise : z-score over the whole `image` or the `body` mask, before resampling
    normalise_scale : factor on the z-score, so that a fixed bin width of 5 or 25 makes sense (100 is usual)
    in_plane : neighbours, zones and wavelets within slices only
    crop : `shared`: filters once for all regions, on their union with a margin of 8 sigma; `compat`: as PyRadiomics,
        on the whole image, or 5 voxels around each region when resampling
    leaving : a ring that leaves the image or body: `refuse`, or `clip` and report the share
    label : value of the lesion in the mask; none: the only one. All voxels of a label are one lesion, however many
        parts they form: rings surround their union
    others : labels beside `label` are other lesions: `subtract` takes their voxels from the rings, which would
        otherwise not be peritumoural; `keep` leaves them in
    min_voxels : smaller regions are refused
    max_levels : more grey levels are refused (memory and time grow with their square)
    ibsi : kurtosis minus 3, axis lengths over n - 1, as the IBSI defines them; else as PyRadiomics
    engine : `osml`; or `pyradiomics`, which must be installed: reading, normalising, resampling and regions stay ours,
        filters and features are PyRadiomics' own. The same values, many times slower; for checking
    device : where texture is counted: `cpu` (compiled kernels); `cuda` (torch, all images and regions of a lesion at
        once, the same counts); `auto`: the card, if there is one, from 2 million voxels × filtered images on
    """

    filters: tuple[str, ...] = ("original",)
    log_sigma_mm: tuple[float, ...] = ()
    classes: tuple[str, ...] = CLASSES
    regions: tuple[str, ...] = ("tumour",)
    bin_width: float = 25.0
    bin_count: int | None = None
    spacing_mm: tuple[float, ...] | None = None
    normalise: Literal["none", "image", "body"] = "none"
    normalise_scale: float = 1.0
    in_plane: bool = False
    crop: Literal["shared", "compat"] = "shared"
    leaving: Literal["refuse", "clip"] = "refuse"
    label: float | None = None
    others: Literal["subtract", "keep"] = "subtract"
    min_voxels: int = 10
    max_levels: int = 256
    ibsi: bool = False
    engine: Literal["osml", "pyradiomics"] = "osml"
    device: Literal["cpu", "cuda", "auto"] = "cpu"

    def __post_init__(self) -> None:
        if self.regions == ("mri-rings",):
            object.__setattr__(self, "regions", MRI_RINGS)
        _subset("filters", self.filters, FILTER_NAMES)
        _subset("classes", self.classes, CLASSES)
        for name, choices in (
            ("normalise", ("none", "image", "body")), ("crop", ("shared", "compat")), ("leaving", ("refuse", "clip")),
            ("others", ("subtract", "keep")), ("engine", ("osml", "pyradiomics")),
            ("device", ("cpu", "cuda", "auto")),
        ):  # fmt: skip
            _subset(name, (getattr(self, name),), choices)
        for region in self.regions:
            ring_mm(region)
        if not self.regions or len(set(self.regions)) < len(self.regions):
            raise InvalidInputError(f"regions {list(self.regions)}: name each region once, and at least one")
        if ("log" in self.filters) != bool(self.log_sigma_mm):
            raise InvalidInputError("filter `log` and `log_sigma_mm` belong together; one is missing")
        if self.ibsi and self.engine == "pyradiomics":
            raise InvalidInputError("`ibsi: true` belongs to `engine: osml`; PyRadiomics has no such choice")
        if self.device != "cpu" and self.engine == "pyradiomics":
            raise InvalidInputError(f"`device: {self.device}` belongs to `engine: osml`")
        positive = [self.bin_width, self.normalise_scale, *self.log_sigma_mm, *(self.spacing_mm or ())]
        if not all(0 < value < float("inf") for value in positive):
            raise InvalidInputError("bin_width, normalise_scale, log_sigma_mm and spacing_mm must be positive numbers")
        if (self.bin_count is not None and self.bin_count < 2) or self.min_voxels < 2 or self.max_levels < 2:
            raise InvalidInputError("bin_count, min_voxels and max_levels must be at least 2")


def ring_mm(region: str) -> tuple[float, float] | None:
    """(inner, outer) in mm from the mask surface; inner is -inf where the mask belongs to it; None for the mask.

    >>> ring_mm("tumour"), ring_mm("2-4mm"), ring_mm("tumour+6mm")
    (None, (2.0, 4.0), (-inf, 6.0))
    """
    if region == "tumour":
        return None
    found = _RING.fullmatch(region)
    if found is None or found[1]:
        raise InvalidInputError(f"region {region!r} is not known", do="Write tumour, 0-2mm (a ring) or tumour+2mm.")
    inner, outer = (float("-inf"), float(found[4])) if found[4] else (float(found[2]), float(found[3]))
    if not inner < outer or outer <= 0:
        raise InvalidInputError(f"region {region!r} has no width")
    return inner, outer


def settings_from(values: Mapping[str, Any], where: str = "settings") -> Settings:
    """Settings from plain values, as a YAML file holds them. Unknown keys are refused.

    >>> settings_from({"regions": ["tumour", "0-2mm"], "bin_width": 5}).bin_width
    5.0
    """
    known = {field.name: field for field in fields(Settings)}
    out: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise InvalidInputError(f"{where}: unknown key {key!r}", do=f"{hint}Allowed: {', '.join(known)}.")
        out[key] = _typed(where, key, value)
    return Settings(**out)


def read_settings(path: Path) -> Settings:
    """`settings_from` a YAML file; no file content means the defaults."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        values = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InvalidInputError(f"{path}: no such file") from error
    except YAMLError as error:
        raise InvalidInputError(f"{path}: not valid YAML: {error}") from error
    if values is not None and not isinstance(values, dict):
        raise InvalidInputError(f"{path}: `key: value` lines are expected")
    return settings_from(values or {}, str(path))


def resolved(settings: Settings) -> dict[str, Any]:
    """All fields as plain values: part of the cache key and of the table's description."""
    return asdict(settings)


_TEXTS, _NUMBERS = ("filters", "classes", "regions"), ("log_sigma_mm", "spacing_mm")
_INTS, _FLOATS = ("bin_count", "min_voxels", "max_levels"), ("bin_width", "normalise_scale", "label")


def _typed(where: str, key: str, value: Any) -> Any:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if value is None and key in ("bin_count", "spacing_mm", "label"):
        return None
    if key in _TEXTS and isinstance(value, (str, list)):
        return (value,) if isinstance(value, str) else tuple(map(str, value))
    if key in _NUMBERS and isinstance(value, list) and all(isinstance(v, (int, float)) for v in value):
        return tuple(map(float, value))
    if key in _INTS and isinstance(value, int) and number:
        return value
    if key in _FLOATS and number:
        return float(value)
    if key in ("ibsi", "in_plane") and isinstance(value, bool):
        return value
    if key in ("normalise", "crop", "leaving", "others", "engine", "device") and isinstance(value, str):
        return value
    raise InvalidInputError(f"{where}: {key}: {value!r} has the wrong type")


def _subset(name: str, values: tuple[str, ...], allowed: tuple[str, ...]) -> None:
    wrong = [value for value in values if value not in allowed]
    if wrong or not values:
        raise InvalidInputError(f"{name}: {', '.join(wrong) or 'nothing'} is not allowed; known: {', '.join(allowed)}")
