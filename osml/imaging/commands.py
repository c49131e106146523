"""`osml slide info` and `tile`: thin commands; everything heavy is imported inside them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from osml.errors import EXIT_CHECK

slide = typer.Typer(
    help="Whole slides: what they are, tiles of them, tissue on them.", no_args_is_help=True, rich_markup_mode=None
)

Slides = Annotated[list[Path], typer.Argument(metavar="SLIDE...", help="SVS, NDPI, MRXS, pyramidal TIFF, OME-TIFF …")]
Override = Annotated[
    float | None, typer.Option(min=0.01, max=1000, help="µm per pixel of the slides, instead of what they say")
]


@slide.callback()
def _group() -> None:
    """Whole slides: what they are, tiles of them, tissue on them."""


@slide.command()
def info(slides: Slides, mpp: Override = None) -> None:
    """Print size, scale and levels of each slide; those that cannot be read are named."""
    from osml.imaging.errors import ImagingError
    from osml.imaging.slides import open_slide
    from osml.imaging.slides_job import describe

    failed = 0
    for path in slides:
        try:
            with open_slide(path, mpp=mpp) as opened:
                typer.echo(describe(opened))
        except ImagingError as error:
            failed += 1
            typer.echo(f"{path.name}: {error.reason}: {error}")
    if failed:
        raise typer.Exit(EXIT_CHECK)


@slide.command()
def tile(
    slides: Slides,
    out: Annotated[Path, typer.Option("-o", "--out", help="folder to write")],
    mpp: Annotated[float, typer.Option(min=0.01, help="µm per pixel of the tiles")] = 0.5,
    size: Annotated[int, typer.Option(min=1, help="pixels along a side")] = 256,
    overlap: Annotated[int, typer.Option(min=0, help="pixels that neighbours share")] = 0,
    min_tissue: Annotated[float, typer.Option(min=0, max=1, help="share of a tile that is tissue, at least")] = 0.5,
    format: Annotated[Literal["jpeg", "png"], typer.Option(help="png loses nothing and is larger")] = "jpeg",
    slide_mpp: Override = None,
    workers: Annotated[int | None, typer.Option(min=1, help="processes; default: as many as pay")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress lines")] = False,
) -> None:
    """Cut the tissue of many slides into tiles. The same command continues; a broken slide stops no other."""
    from osml.imaging.slides_job import Tiling, tile_slides

    tiling = Tiling(mpp, size, overlap, min_tissue, format, slide_mpp)
    if tile_slides(slides, out, tiling, workers=workers, say=typer.echo, quiet=quiet):
        raise typer.Exit(EXIT_CHECK)
