"""Measures one patient's files in a process of its own, so that a hostile file can end no more than this process.

Run as a script with a folder that holds `job.json`; writes `answer.json` there. It has a memory limit, and whoever
starts it has a clock.
"""

from __future__ import annotations

import base64
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np

from osml.errors import OsmlError
from osml.features import compute_features
from osml.files import read_json, write_json
from osml.schema.model import Schema

MEMORY_BYTES = 12 * 2**30
PICTURE_PIXELS = 640


def main(folder: Path) -> None:
    """Measure the job in `folder`."""
    _limit_memory()
    job = read_json(folder / "job.json")
    schema = Schema.model_validate(job["schema"])
    files = {key: [name] for key, name in job["files"].items()}
    try:
        found = compute_features(
            schema, job["names"], ["patient"], files, folder, readings=False, cache=folder / "cache", workers=1
        )
    except OsmlError as error:
        write_json(folder / "answer.json", {"refused": str(error)})
        return
    lost = [
        {"input": u.input, "reason": u.reason, "detail": u.detail.removeprefix("patient: ")} for u in found.unusable
    ]
    usable = [name for name in job["names"] if name not in {u.input for u in found.unusable}]
    answer = {
        "tables": {
            name: {"columns": list(table.columns), "x": [None if np.isnan(v) else v for v in table.x[0].tolist()]}
            for name, table in found.tables.items()
        },
        "unusable": lost,
        "regions": {name: [_plain(line) for line in lines] for name, lines in found.regions.items()},
        "pictures": {
            name: base64.b64encode(_picture(folder, schema, name, job["files"])).decode("ascii") for name in usable
        },
    }
    write_json(folder / "answer.json", answer)


def _limit_memory() -> None:
    if sys.platform == "win32":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


def _plain(line: dict[str, Any]) -> dict[str, Any]:
    return {key: value.item() if isinstance(value, np.generic) else value for key, value in line.items()}


def _picture(folder: Path, schema: Schema, name: str, files: dict[str, str]) -> bytes:
    """PNG of the slice that holds most of the lesion, 2nd to 98th percentile of its grey values, outline in orange."""
    from PIL import Image
    from scipy import ndimage

    from osml.imaging.masks import choose_label
    from osml.imaging.read import read_image, read_mask

    source = schema.radiomics()[name].of
    block = schema.source(name).mask
    image = read_image(folder / files[source])
    mask = choose_label(read_mask(folder / files[f"{source}.mask"], image), None if block is None else block.label)
    grey, inside, spacing = image.array, mask.array, image.spacing_mm
    if grey.ndim == 3:
        z = int(np.argmax(inside.sum(axis=(1, 2))))
        grey, inside = grey[z], inside[z]
    low, high = np.percentile(grey, [2, 98])
    shown = np.clip((grey - low) / max(high - low, 1e-12), 0, 1) * 255
    # Enlarged before the outline is drawn, so that it hides little; pixels become square.
    factor = PICTURE_PIXELS / max(grey.shape[1] * spacing[0], grey.shape[0] * spacing[1])
    size = max(1, round(grey.shape[1] * spacing[0] * factor)), max(1, round(grey.shape[0] * spacing[1] * factor))
    picture = np.asarray(Image.fromarray(shown.astype(np.uint8)).resize(size, Image.Resampling.BILINEAR))
    region = np.asarray(Image.fromarray(inside.astype(np.uint8)).resize(size, Image.Resampling.NEAREST)) > 0
    outline = ndimage.binary_dilation(region, iterations=2) & ~region
    colour = np.repeat(picture[:, :, None], 3, axis=2)
    colour[outline] = (230, 159, 0)
    out = io.BytesIO()
    Image.fromarray(colour).save(out, "PNG")
    return out.getvalue()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
