"""What the machine offers to a plan."""

from __future__ import annotations

import importlib.util
from typing import Any

from osml.engine import cores
from osml.nets.device import choose_device


def machine() -> dict[str, Any]:
    """Cores, the GPU if there is one, and which optional parts are installed."""
    nets = all(importlib.util.find_spec(name) is not None for name in ("torch", "timm", "safetensors"))
    return {
        "cores": cores(),
        "gpu": nets and choose_device() != "cpu",
        "networks": nets,
        "boosting": importlib.util.find_spec("lightgbm") is not None,
        "tuning": importlib.util.find_spec("optuna") is not None,
        "autogluon": _autogluon(),
    }


def _autogluon() -> bool:
    if importlib.util.find_spec("autogluon") is None:
        return False
    return importlib.util.find_spec("autogluon.tabular") is not None
