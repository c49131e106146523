"""Segments one slide, or reads one region of it, in a process of its own; run as a script with a folder of `job.json`.

`segment` writes `stage.json` while it runs and the folder `result`; `region` writes plain bytes. Both end with
`answer.json`. By path and not by module, so that reading a region does not import networks.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from osml.errors import OsmlError
from osml.files import read_json, write_json

MEMORY_BYTES = 8 * 2**30


def main(folder: Path) -> None:
    """Do the job in `folder`."""
    job = read_json(folder / "job.json")
    path = Path(job["slide"])
    try:
        answer = _segment(folder, job, path) if job["kind"] == "segment" else _region(folder, job, path)
    except OsmlError as error:
        # The server's paths are nobody's business.
        words = "\n".join(part for part in (error.what, error.why, error.do) if part)
        answer = {"refused": words.replace(str(path), job["name"]).replace(str(folder), "")}
    write_json(folder / "answer.json", answer)


def _segment(folder: Path, job: dict[str, Any], path: Path) -> dict[str, Any]:
    from osml.nets.device import choose_device
    from osml.predictors.slide import load_slide
    from osml.predictors.slide_recipe import SlideCase
    from osml.predictors.slide_segment import segment_slide

    def stage(words: str) -> None:
        write_json(folder / "stage.json", {"stage": words})

    stage("loading the model")
    fitted = load_slide(Path(job["model"]))
    fitted.encoder()
    case = SlideCase("slide", "slide", path, None, None)
    segment_slide(fitted, case, folder / "result", cache=None, device=choose_device(), stage=stage)
    return {"done": True}


def _region(folder: Path, job: dict[str, Any], path: Path) -> dict[str, Any]:
    """Pixels of a part of the slide, given in pixels of level 0, at most `side` along its longer side."""
    import numpy as np

    from osml.imaging.slides import open_slide

    _limit_memory()
    x, y, width, height = (int(value) for value in job["box"])
    with open_slide(path, name="slide") as slide:
        width, height = min(width, slide.width), min(height, slide.height)
        wanted = max(width, height) / job["side"]
        fine = [k for k, level in enumerate(slide.levels) if level.downsample <= max(1.0, wanted) * 1.01]
        number = fine[-1] if fine else 0
        down = slide.levels[number].downsample
        step = max(1, int(wanted / down))
        w, h = max(1, round(width / down)), max(1, round(height / down))
        pixels = _averaged(slide, number, (round(x / down), round(y / down), w, h), step)
        facts = {"width": slide.width, "height": slide.height, "mpp": slide.mpp}
    (folder / "region.u8").write_bytes(np.ascontiguousarray(pixels).tobytes())
    return {"shape": list(pixels.shape[:2]), "step": down * step, **facts}


def _averaged(slide: Any, level: int, box: tuple[int, int, int, int], step: int) -> Any:
    """Means of blocks of `step` pixels, read in bands, so that memory stays small on a slide without levels."""
    import numpy as np
    from PIL import Image

    x, y, w, h = box
    out = np.empty((-(-h // step), -(-w // step), 3), dtype=np.uint8)
    band = max(1, 1024 // step)
    for top in range(0, out.shape[0], band):
        rows = min(band * step, h - top * step)
        block = Image.fromarray(slide.read(level, x, y + top * step, w, rows))
        block = block.reduce(step) if step > 1 else block
        out[top : top + block.height] = np.asarray(block)
    return out


def _limit_memory() -> None:
    if sys.platform == "win32":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
