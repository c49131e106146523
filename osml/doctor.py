"""`osml doctor`: versions, cores, and which optional feature needs what."""

from __future__ import annotations

import importlib.util
import platform
from importlib import metadata

import osml
from osml.engine import cores

# feature → (module, extra). An extra is listed once something uses it.
FEATURES: dict[str, tuple[str, str]] = {
    "the app (osml app)": ("streamlit", "app"),
    "the app's audit log": ("sqlalchemy", "app"),
    "logins to the app": ("authlib", "login"),
    "radiomics: compiled kernels": ("numba", "radiomics"),
    "radiomics: volumes": ("SimpleITK", "radiomics"),
    "radiomics: DICOM": ("pydicom", "radiomics"),
    "radiomics: wavelets": ("pywt", "radiomics"),
    "radiomics: pictures": ("PIL", "radiomics"),
    "radiomics: forests": ("sklearn", "radiomics"),
    "whole slides": ("openslide", "slides"),
    "whole slides: tiled TIFF and SVS, OME-TIFF": ("tifffile", "slides"),
    "networks": ("torch", "nets"),
    "networks: image encoders": ("timm", "nets"),
    "networks: one training over several GPUs": ("lightning_fabric", "multigpu"),
    "tasks on a Ray cluster (--engine ray)": ("ray", "cluster"),
    "live peers of the full test suite": ("lifelines", "dev"),
}
CORE = ("numpy", "scipy", "pandas", "pyarrow", "openpyxl", "matplotlib", "pydantic", "ruamel.yaml", "typer", "filelock")


def report() -> str:
    """Plain text, one fact a line."""
    lines = [
        f"osml       {osml.__version__}",
        f"python     {platform.python_version()} on {platform.system()} {platform.machine()}",
    ]
    lines.append(f"cores      {cores()}")
    for package in CORE:
        lines.append(f"{package:<13}{_version(package)}")
    for feature, (module, extra) in FEATURES.items():
        state = "available" if importlib.util.find_spec(module) else f"missing: pip install 'osml[{extra}]'"
        lines.append(f"{feature}: {state}")
    return "\n".join(lines)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "NOT INSTALLED (required)"
