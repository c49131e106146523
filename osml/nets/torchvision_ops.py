"""Import of timm where torchvision was compiled for another build of torch.

timm imports torchvision, and torchvision's own import registers Python rules for its compiled operators. Beside a torch
of another build (the CPU build, say) the compiled file does not load, the operators do not exist, and the import ends
with `operator torchvision::nms does not exist`. Schemas of `nms` and `qnms` alone are enough for it: no encoder calls
them. Where the compiled operators load, nothing is declared.
"""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from osml.errors import missing_extra

OPERATORS = ("nms", "qnms")
_SCHEMA = "{}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def import_timm() -> ModuleType:
    """The module timm, imported with whatever torchvision is there.

    Raises
    ------
    MissingExtraError
        torch or timm is not installed.
    """
    for package in ("torch", "timm"):
        if importlib.util.find_spec(package) is None:
            raise missing_extra(package, "nets", "image encoders")
    declare_operators()
    return importlib.import_module("timm")


@cache
def declare_operators() -> tuple[Any, ...]:
    """Declare what torchvision's compiled file does not bring; empty where it loads or torchvision is absent.

    The declarations last as long as the returned objects, which the cache keeps.
    """
    import torch

    if importlib.util.find_spec("torchvision") is None or _load_compiled():
        return ()
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in OPERATORS:
        if not hasattr(torch.ops.torchvision, name):
            library.define(_SCHEMA.format(name))
    return (library,)


def _load_compiled() -> bool:
    import torch

    found = importlib.util.find_spec("torchvision")
    folders = list(found.submodule_search_locations or ()) if found else []
    for path in sorted(
        path for folder in folders for path in Path(folder).glob("_C*") if path.suffix in (".so", ".pyd")
    ):
        try:
            torch.ops.load_library(str(path))
        except OSError:  # compiled for another torch
            continue
    return all(hasattr(torch.ops.torchvision, name) for name in OPERATORS)
