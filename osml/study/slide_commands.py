"""`osml slide segment` and `osml slide evaluate`; everything heavy is imported inside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from osml.errors import EXIT_CHECK, RunError, TableError
from osml.imaging.commands import Override, Slides

if TYPE_CHECKING:
    from osml.predictors.slide_recipe import SlideCase

PatientColumn = Annotated[str, typer.Option("--patient", help="column of --table that names the patient")]
SlideColumn = Annotated[str, typer.Option("--slide", help="column of the slide: its file's name without the suffix")]


def segment(
    model: Annotated[
        Path, typer.Argument(metavar="RUN_OR_BUNDLE", help="run, study folder (its latest run) or bundle")
    ],
    slides: Slides,
    out: Annotated[Path, typer.Option("-o", "--out", help="folder to write")],
    mpp: Override = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="also write the probability of every class")
    ] = False,
    table: Annotated[Path | None, typer.Option(help="case and slide: rates of patients are then written")] = None,
    patient: PatientColumn = "case",
    slide: SlideColumn = "slide",
    predictor: Annotated[str | None, typer.Option(help="default: the chosen one, else the first")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="processes; default: one per core")] = None,
    device: Annotated[str, typer.Option(help="auto (a GPU if there is one), cpu, cuda, cuda:1")] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress lines")] = False,
) -> None:
    """Segment tissue on many slides: class maps, outlines, areas, necrosis rates. The same command continues."""
    import os

    from osml.cache import default_folder
    from osml.imaging.slides_job import slide_names
    from osml.nets.device import VARIABLE, choose_device
    from osml.predictors.slide_job import SegmentJob, segment_slides
    from osml.predictors.slide_recipe import SlideCase

    os.environ[VARIABLE] = device
    names = slide_names(slides)
    cases = [SlideCase(name, name, path, None, mpp) for name, path in zip(names, slides, strict=True)]
    if table is not None:
        cases = _with_patients(cases, table, patient, slide)
    folder = slide_model(model, predictor)
    job = SegmentJob(folder, out, default_folder(), choose_device(), probabilities)
    trained = slides_of_training(folder, cases)
    if segment_slides(
        job, cases, by_patient=table is not None, workers=workers, trained=trained, say=typer.echo, quiet=quiet
    ):
        raise typer.Exit(EXIT_CHECK)


def evaluate(
    maps: Annotated[Path, typer.Argument(metavar="MAP_OR_FOLDER", help="what `osml slide segment` wrote")],
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="case, slide, annotation")],
    patient: PatientColumn = "case",
    slide: SlideColumn = "slide",
    annotation: Annotated[
        str, typer.Option(help="column of QuPath's GeoJSON or a picture in the classes' colours")
    ] = "annotation",
    out: Annotated[Path | None, typer.Option("-o", "--out", help="JSON to write")] = None,
) -> None:
    """Judge class maps against annotations: mIoU, precision, recall, Dice, error of the necrosis rate."""
    from osml.files import write_json
    from osml.predictors.slide_evaluate import evaluate_maps, print_judged

    judged = evaluate_maps(maps, annotated_slides(table, patient, slide, annotation))
    print_judged(judged, typer.echo)
    if out is not None:
        write_json(out, judged.as_json())
        typer.echo(f"wrote {out}")


def slide_model(path: Path, predictor: str | None) -> Path:
    """The folder of a slide predictor: in a verified bundle, or one that `FittedSlide.save` wrote.

    Raises
    ------
    RunError, VerificationError
        Neither, or a bundle without slide predictors, or without this one.
    """
    from osml.predictors.slide import FACTS
    from osml.runs.bundle import open_bundle
    from osml.schema.suggest import hint
    from osml.serving.loading import bundle_folder

    if (path / FACTS).is_file() and predictor is None:
        return path
    bundle = open_bundle(bundle_folder(path))
    inside = [name.split("/") for name in bundle.manifest["files"]]
    names = [parts[1] for parts in inside if len(parts) == 3 and parts[0] == "predictors" and parts[2] == FACTS]
    if not names:
        raise RunError(f"{path} holds no slide predictor", do="Give a run of a study with `target: {kind: region}`.")
    if predictor is None:
        chosen = bundle.read("facts.json").get("chosen") if "facts.json" in bundle.manifest["files"] else None
        predictor = names[0] if chosen not in names else str(chosen)
    if predictor not in names:
        raise RunError(f"the bundle has no slide predictor {predictor!r}", do=hint(predictor, names))
    return bundle.path / "predictors" / predictor


def slides_of_training(model: Path, cases: Sequence[SlideCase]) -> dict[str, str] | None:
    """Slides of patients that a predictor of a bundle was trained on, and how they are known; None outside a bundle."""
    from osml.runs.bundle import MANIFEST, open_bundle
    from osml.study.slides.trained import in_training, training_of

    folder = model.parent.parent
    return in_training(training_of(open_bundle(folder)), cases) if (folder / MANIFEST).is_file() else None


def annotated_slides(path: Path, patient: str, slide: str, annotation: str) -> dict[str, tuple[str, Path]]:
    """Patient and annotation by slide, of the lines that have one; paths are relative to the table."""
    rows = _rows(path, (patient, slide, annotation))
    out: dict[str, tuple[str, Path]] = {}
    for who, name, drawn in rows:
        if drawn.strip():
            out[name] = (who, path.parent / drawn)
    if not out:
        raise TableError(f"{path.name}: no line has an annotation in {annotation!r}")
    return out


def _with_patients(cases: Sequence[SlideCase], path: Path, patient: str, slide: str) -> list[SlideCase]:
    from dataclasses import replace

    who = {name: patient for patient, name in _rows(path, (patient, slide))}
    missing = [case.slide for case in cases if case.slide not in who]
    if missing:
        raise TableError(
            f"{path.name}: {len(missing)} slides are not in its column {slide!r}: {', '.join(missing[:5])}",
            why="Their patients would be guessed.",
            do="Add them; a slide is named like its file, without the suffix.",
        )
    return [replace(case, patient=who[case.slide]) for case in cases]


def _rows(path: Path, columns: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Cells of some columns; the second is the slide, which comes once."""
    from osml.cohort.table import read_table
    from osml.schema.suggest import hint

    table = read_table(path)
    for column in columns:
        if column not in table.columns:
            raise TableError(f"{path.name}: no column {column!r}", do=hint(column, list(table.columns)))
    rows = list(zip(*(table.column(column) for column in columns), strict=True))
    seen: set[str] = set()
    for number, row in enumerate(rows):
        if not row[0].strip() or not row[1].strip():
            raise TableError(f"{table.where(number)}: {columns[0]!r} or {columns[1]!r} is empty")
        if row[1] in seen:
            raise TableError(f"{table.where(number)}: slide {row[1]!r} comes twice")
        seen.add(row[1])
    return rows
