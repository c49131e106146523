"""Measures one patient's files in a process of its own, so that a hostile file can end no more than this process.

Run as a script with a folder that holds `job.json`; writes `answer.json` there. It has a memory limit, and whoever
starts it has a clock.
"""

from __future__ import annotations

import base64
import io
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from osml.errors import OsmlError
from osml.features import compute_features
from osml.files import read_json, write_json
from osml.imaging.errors import ImagingError
from osml.schema.images import VolumeInput
from osml.schema.model import Schema

MEMORY_BYTES = 12 * 2**30
PICTURE_PIXELS = 640


def main(folder: Path) -> None:
    """Measure the job in `folder`."""
    _limit_memory()
    job = read_json(folder / "job.json")
    schema = Schema.model_validate(job["schema"])
    files: dict[str, list[str]] = job["files"]
    first = {key: [names[0]] for key, names in files.items()}
    answer: dict[str, Any] = {"tables": {}, "unusable": [], "regions": {}, "pictures": {}, "images": {}, "shown": {}}
    try:
        answer["unusable"] = _refused(folder, files, job["most_voxels"])
        if not answer["unusable"] and job["names"]:
            answer |= _radiomics(folder, schema, job["names"], first)
        if not answer["unusable"]:
            for picture in job["pictures"]:
                _network_pictures(folder, schema, picture, files, answer)
    except OsmlError as error:
        write_json(folder / "answer.json", {"refused": str(error)})
        return
    write_json(folder / "answer.json", answer)


def _refused(folder: Path, files: dict[str, list[str]], most_voxels: int) -> list[dict[str, str]]:
    """DICOM files of a class that is not read, of too many voxels, or with text, perhaps a name, in the picture."""
    out = []
    for key, names in files.items():
        found = [path for name in names for path in _dicom_files(folder / name)]
        if not found:
            continue
        from osml.imaging.dicom import BURNED_IN, notes, read_header, whole
        from osml.imaging.dicom_allowed import check_allowed

        voxels = 0
        try:
            for path in found:
                header = read_header(path)
                check_allowed(path, header)
                voxels += whole(header, "Rows") * whole(header, "Columns") * whole(header, "NumberOfFrames", 1)
                if BURNED_IN in notes(header):
                    out.append({"input": key, "reason": "burned_in", "detail": f"{BURNED_IN}; export it without"})
                    break
        except ImagingError as error:
            out.append({"input": key, "reason": error.reason, "detail": _bare(folder, error.what)})
            continue
        if voxels > most_voxels:
            words = f"{voxels:,} voxels are declared; at most {most_voxels:,} are read"
            out.append({"input": key, "reason": "too_large", "detail": words})
    return out


def _dicom_files(path: Path) -> list[Path]:
    """A DICOM file, or those of a series."""
    return sorted(path.iterdir()) if path.is_dir() else [path] if path.suffix == ".dcm" else []


def _bare(folder: Path, text: str) -> str:
    return text.replace(f"{folder}{os.sep}", "")


def _radiomics(folder: Path, schema: Schema, names: list[str], files: dict[str, list[str]]) -> dict[str, Any]:
    found = compute_features(
        schema, names, ["patient"], files, folder, readings=False, cache=folder / "cache", workers=1
    )
    lost = [
        {"input": u.input, "reason": u.reason, "detail": u.detail.removeprefix("patient: ")} for u in found.unusable
    ]
    usable = [n for n in names if n not in {u.input for u in found.unusable} and schema.radiomics()[n].mask is None]
    return {
        "tables": {
            name: {"columns": list(table.columns), "x": [None if np.isnan(v) else v for v in table.x[0].tolist()]}
            for name, table in found.tables.items()
        },
        "unusable": lost,
        "regions": {name: [_plain(line) for line in lines] for name, lines in found.regions.items()},
        "pictures": {name: base64.b64encode(_picture(folder, schema, name, files)).decode("ascii") for name in usable},
    }


def _network_pictures(
    folder: Path, schema: Schema, job: dict[str, Any], files: dict[str, list[str]], answer: dict[str, Any]
) -> None:
    """Decoded pictures for the other process as plain bytes, and small ones to show."""
    from PIL import Image

    from osml.nets.images import decode, fit

    name = job["input"]
    mask = files.get(f"{name}.mask")
    try:
        paths = picture_files(schema, name, files[name], mask[0] if mask else None, folder)
        pixels = [decode(path) for path in paths]
    except ImagingError as error:
        answer["unusable"].append({"input": name, "reason": error.reason, "detail": _bare(folder, error.what)})
        return
    answer["images"][job["key"]] = []
    answer["shown"][name] = []
    for k, picture in enumerate(pixels):
        ready = picture if job["size"] is None else fit(picture, job["size"], job["interpolation"])
        (folder / f"{job['key']}.{k}.u8").write_bytes(np.ascontiguousarray(ready).tobytes())
        answer["images"][job["key"]].append({"shape": list(ready.shape[:2])})
        small = Image.fromarray(picture)
        small.thumbnail((PICTURE_PIXELS, PICTURE_PIXELS))
        sink = io.BytesIO()
        small.save(sink, "PNG")
        answer["shown"][name].append(base64.b64encode(sink.getvalue()).decode("ascii"))


def picture_files(schema: Schema, name: str, files: list[str], mask: str | None, folder: Path) -> list[Path]:
    """As `osml.serving.encoders.picture_files`, which this process does not import: predictors come with it."""
    from osml.features.pictures import radiograph_picture, volume_pictures

    block = schema.inputs[name]
    if isinstance(block, VolumeInput) and block.mask is not None and mask is not None:
        drawn = [volume_pictures(folder / f, folder / mask, block.mask, folder / "cache") for f in files]
        return [path for paths in drawn for path in paths]
    return [radiograph_picture(folder / file, folder / "cache") for file in files]


def _limit_memory() -> None:
    if sys.platform == "win32":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


def _plain(line: dict[str, Any]) -> dict[str, Any]:
    return {key: value.item() if isinstance(value, np.generic) else value for key, value in line.items()}


def _picture(folder: Path, schema: Schema, name: str, files: dict[str, list[str]]) -> bytes:
    """PNG of the slice that holds most of the lesion, 2nd to 98th percentile of its grey values, outline in orange."""
    from PIL import Image
    from scipy import ndimage

    from osml.imaging.masks import choose_label
    from osml.imaging.read import read_image, read_mask

    source = schema.radiomics()[name].of
    block = schema.source(name).mask
    image = read_image(folder / files[source][0])
    mask = choose_label(read_mask(folder / files[f"{source}.mask"][0], image), None if block is None else block.label)
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
