"""Features of one patient's uploaded files: checked, read in a process of their own, and not kept.

Only decoding happens there: torch takes seconds to start. What comes back are arrays of a size that was asked for,
which the encoder of this process then reads.
"""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

import osml
from osml.cohort.cohort import FeatureTable
from osml.errors import ArchiveError, OsmlError, TableError
from osml.features import Features, Unusable, used_radiomics
from osml.files import read_json, write_json
from osml.imaging.errors import ImagingError, UnreadableError
from osml.predictors.chain import Chain
from osml.schema.model import Schema
from osml.schema.suggest import hint
from osml.serving.encoders import EncoderShelf, NetworkImage, network_images, read_pictures
from osml.serving.form import ImageField, image_fields
from osml.serving.image_bytes import MAX_PIXELS, MAX_VOXELS
from osml.serving.measured import Measured, Pixels, joined, nothing_measured
from osml.serving.received import File, may_be_series, received

TIMEOUT_S = 300.0
Files = Mapping[str, File | Sequence[File]]


def measure_files(
    schema: Schema, chain: Chain, images: Files, shelf: EncoderShelf | None = None, *, timeout_s: float = TIMEOUT_S
) -> Measured:
    """Features and vectors of one patient's files.

    Parameters
    ----------
    images : `input`, `input.mask`, `input.body` → content or path of a file, several where the input allows it; of a
        volume also the slices of a DICOM series, or a ZIP archive of them; names play no part
    timeout_s : after which reading and measuring are stopped

    Raises
    ------
    TableError
        A file that the model does not ask for. One that is missing or unusable is a reason in `lost`.
    """
    fields = {field.key: field for field in image_fields(schema, chain.name)}
    given = {key: _listed(value) for key, value in images.items()}
    for key in given:
        if key not in fields:
            raise TableError(f"the model has no image {key!r}", do=hint(key, fields))
    given = {key: files for key, files in given.items() if files}
    why = _absent(fields, given)
    if why:
        return Measured({}, {0: why})
    if not given:
        return nothing_measured(schema, chain)
    wanted = [image for image in network_images(schema, chain) if image.source.name in given]
    encoders = [(shelf or EncoderShelf()).of(image) for image in wanted]
    names = [name for name in used_radiomics(schema, [chain.name]) if schema.radiomics()[name].of in given]
    sources = [key for key in fields if key in given and key in schema.inputs]
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        try:
            files = {key: received(folder, fields[key], found) for key, found in given.items()}
        except ImagingError as error:
            return Measured({}, {0: error.what})
        except ArchiveError as error:
            return Measured({}, {0: f"{', '.join(sources)}: {error.what}"})
        pictures = [
            {"key": image.source.key, "input": image.source.name, **_size(image, encoder)}
            for image, encoder in zip(wanted, encoders, strict=True)
        ]
        job: dict[str, Any] = {
            "schema": schema.model_dump(mode="json"),
            "names": names,
            "files": files,
            "pictures": pictures,
            "most_voxels": MAX_VOXELS,
        }
        write_json(folder / "job.json", job)
        failure = _run(folder, timeout_s)
        if failure:
            return Measured({}, {0: f"{', '.join(sources)}: {failure}"})
        answer = read_json(folder / "answer.json")
        if "refused" in answer:
            raise OsmlError(answer["refused"])
        features = _features(answer, folder)
        found = joined(schema, chain, [([0], features)], [""])
        if found.lost:
            return found
        try:
            pixels = {job["key"]: _pixels(folder, answer["images"].get(job["key"], []), job) for job in pictures}
        except ImagingError as error:
            return Measured({}, {0: error.what})
        tables = dict(nothing_measured(schema, chain).images)
        for image, encoder in zip(wanted, encoders, strict=True):
            made_files = _as_files(folder, pixels[image.source.key])
            tables[image.source.key] = read_pictures(image, encoder, made_files, [0] * len(made_files))
    return replace(
        found,
        pictures={name: base64.b64decode(text) for name, text in answer["pictures"].items()},
        images=tables,
        shown={name: tuple(map(base64.b64decode, texts)) for name, texts in answer["shown"].items()},
        pixels=pixels,
    )


def _listed(value: File | Sequence[File]) -> list[File]:
    return [value] if isinstance(value, bytes | Path) else list(value)


def _absent(fields: Mapping[str, ImageField], given: Mapping[str, list[File]]) -> str:
    """Why the files that were given are too few or too many, or ""."""
    for key, files in given.items():
        series = fields[key].kind == "volume" and may_be_series(files)
        if len(files) > 1 and not fields[key].several and not series:
            return f"{key}: {len(files)} files are given; one is read"
    absent = []
    for key, field in fields.items():
        source = key.rpartition(".")[0] or key
        partner = any(other in given for other in fields if other == source or other.startswith(f"{source}."))
        if key not in given and (partner or not field.may_be_missing):
            absent.append(key)
    return f"{' and '.join(absent)}: no file is given" if absent else ""


def _size(image: NetworkImage, encoder: Any) -> dict[str, Any]:
    """Side to which pictures are brought before they are handed over; None: as they are."""
    from osml.nets.images import stored_size

    if not image.frozen:
        return {"size": stored_size(encoder.size), "interpolation": encoder.interpolation}
    native = image.plan.embedding().scale == "native"
    return {"size": None if native else encoder.size, "interpolation": encoder.interpolation}


def _run(folder: Path, timeout_s: float) -> str:
    """Measure in another process; why it failed, or ""."""
    # By path and not by module: the package of this module would be imported with it, and half of the time be its.
    script = Path(__file__).with_name("measure_process.py")
    home = str(Path(osml.__file__).parents[1])
    paths = os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])
    try:
        done = subprocess.run(
            [sys.executable, "-P", str(script), str(folder)],
            env=os.environ | {"PYTHONPATH": paths},
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"not measured within {timeout_s:g} s"
    if done.returncode or not (folder / "answer.json").is_file():
        lines = done.stderr.decode("utf-8", errors="replace").strip().splitlines()
        return f"reading or measuring the images failed ({lines[-1].partition(':')[0] if lines else 'ended'})"
    return ""


def _features(answer: Mapping[str, Any], folder: Path) -> Features:
    return Features(
        {
            name: FeatureTable(tuple(table["columns"]), np.array(table["x"], dtype=np.float64).reshape(1, -1))
            for name, table in answer["tables"].items()
        },
        tuple(
            Unusable(0, lost["input"], lost["reason"], lost["detail"].replace(f"{folder}{os.sep}", ""))
            for lost in answer["unusable"]
        ),
        answer["regions"],
        {},
    )


def _pixels(folder: Path, answers: Sequence[Mapping[str, Any]], job: Mapping[str, Any]) -> tuple[Pixels, ...]:
    """Pictures from the other process: plain bytes of a stated size, so that nothing is decoded here."""
    out = []
    for k, one in enumerate(answers):
        height, width = (int(side) for side in one["shape"])
        size = job["size"]
        raw = (folder / f"{job['key']}.{k}.u8").read_bytes()
        fits = (height, width) == (size, size) if size is not None else 0 < height * width <= MAX_PIXELS
        if not fits or len(raw) != prod((height, width, 3)):
            raise UnreadableError(f"{job['input']}: the process that reads images gave another size than was asked for")
        out.append(np.frombuffer(raw, dtype=np.uint8).reshape(height, width, 3))
    return tuple(out)


def _as_files(folder: Path, pixels: Sequence[Pixels]) -> list[Path]:
    from PIL import Image

    paths = []
    for k, picture in enumerate(pixels):
        paths.append(folder / f"made{k}.png")
        Image.fromarray(picture).save(paths[-1], compress_level=1)
    return paths
