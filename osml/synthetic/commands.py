"""`osml synth`: thin commands; everything heavy is imported inside them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from osml.errors import InvalidInputError

synth = typer.Typer(help="Write synthetic cohorts with planted effects.", no_args_is_help=True, rich_markup_mode=None)


@synth.callback()
def _group() -> None:
    """Write synthetic cohorts with planted effects."""


@synth.command()
def nac(
    out: Annotated[Path, typer.Option("-o", "--out", help="folder to write")] = Path("examples/nac"),
    patients: Annotated[int, typer.Option(min=10)] = 93,
    seed: Annotated[int, typer.Option(min=0)] = 2026,
    images: Annotated[bool, typer.Option("--images", help="MRI volumes, masks and truth.json too")] = False,
    size: Annotated[
        Literal["small", "paper"] | None, typer.Option(help="of the volumes: small (96 × 96) or paper (384 × 384)")
    ] = None,
    broken: Annotated[bool, typer.Option("--broken", help="damage six patients' images, one in each way")] = False,
) -> None:
    """Clinical table after the published marginals of an MRI study of chemotherapy response; images on request."""
    if not images:
        from osml.synthetic.nac import write_nac

        if size is not None or broken:
            raise InvalidInputError("--size and --broken describe images", do="Add --images.")
        typer.echo(f"wrote {write_nac(out, patients, seed)}: {patients} synthetic patients, no real person")
        return
    from osml.engine import Progress
    from osml.synthetic.nac_images import BROKEN, write_nac_images

    progress = Progress("volumes", patients)
    truth = write_nac_images(out, patients, seed, size=size or "small", broken=broken, progress=progress)
    bound = truth.bayes_auc
    typer.echo(f"wrote {out / 'patients.csv'}: {patients} synthetic patients with MRI, no real person")
    typer.echo(f"      {out / 'truth.json'}: what was planted")
    typer.echo(f"      best possible AUC: clinical {bound.clinical}, image {bound.image}, both {bound.both}")
    typer.echo(f"      {len(truth.second_readings)} patients with a second reader's mask")
    for patient, kind in truth.broken.items():
        typer.echo(f"      {patient} is broken on purpose: {BROKEN[kind]}")


@synth.command()
def tiles(
    out: Annotated[Path, typer.Option("-o", "--out", help="folder to write")] = Path("examples/tiles"),
    patients: Annotated[int, typer.Option(min=4)] = 12,
    per_patient: Annotated[int, typer.Option("--tiles", min=8, help="tiles per patient")] = 40,
    seed: Annotated[int, typer.Option(min=0)] = 2026,
) -> None:
    """H&E tiles of osteosarcoma: non-tumour, viable, non-viable, mixed; several slides per patient."""
    from osml.engine import Progress
    from osml.synthetic.tiles import write_tiles

    progress = Progress("tiles", patients * per_patient)
    truth = write_tiles(out, patients, seed, tiles_per_patient=per_patient, progress=progress)
    counts = ", ".join(f"{name} {n}" for name, n in truth.counts.items())
    typer.echo(f"wrote {out / 'tiles.csv'}: {patients} synthetic patients, no real person; {counts}")
    typer.echo(f"      {out / 'truth.json'}, {out / 'truth.csv'}: what was planted")
    typer.echo(f"      viable against non-viable by the cells alone: AUC {truth.auc_of_cells}")


@synth.command()
def xray(
    out: Annotated[Path, typer.Option("-o", "--out", help="folder to write")] = Path("examples/xray"),
    patients: Annotated[int, typer.Option(min=10)] = 60,
    seed: Annotated[int, typer.Option(min=0)] = 2026,
) -> None:
    """Knee radiographs with ALP and LDH: osteosarcoma against other knee complaints; several views per patient."""
    from osml.engine import Progress
    from osml.synthetic.xray import write_xray

    bound = write_xray(out, patients, seed, progress=lambda n: Progress("pictures", n))
    typer.echo(f"wrote {out / 'radiographs.csv'}: {patients} synthetic patients, no real person")
    typer.echo(f"      {out / 'truth.json'}, {out / 'truth.csv'}: what was planted")
    typer.echo(
        f"      AUC of an ideal reader: age and sex {bound.age_sex}, with ALP and LDH {bound.table}, "
        f"image {bound.lesion_age_sex}, all {bound.all}"
    )


@synth.command()
def slides(
    out: Annotated[Path, typer.Option("-o", "--out", help="folder to write")] = Path("examples/slides"),
    patients: Annotated[int | None, typer.Option(min=2, help="default: 12; with --tiles as many as they give")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 2026,
    tiles: Annotated[Path | None, typer.Option(help="folder of real tiles (tiles.csv) to set into the regions")] = None,
    tiles_mpp: Annotated[
        float | None,
        typer.Option(min=0.01, help="µm per pixel of the tiles; default: 2.286, of 448 px from 1024 at 10×"),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="processes; default: as many as pay")] = None,
) -> None:
    """Whole slides of osteosarcoma: pyramidal TIFF, true class masks, QuPath annotations, necrosis rates."""
    from osml.engine import Progress
    from osml.synthetic.slide_mosaics import TILES_MPP, write_mosaics
    from osml.synthetic.slides import write_slides

    if tiles is None:
        if tiles_mpp is not None:
            raise InvalidInputError("--tiles-mpp describes real tiles", do="Add --tiles FOLDER.")
        count = 12 if patients is None else patients
        rows = write_slides(out, count, seed, workers=workers, progress=Progress("patients", count))
        what = f"{count} synthetic patients, no real person"
    else:
        rows = write_mosaics(out, tiles, patients, seed, mpp=tiles_mpp or TILES_MPP, workers=workers)
        what = f"{len({row.patient for row in rows})} invented patients, mosaics of real tiles: results are optimistic"
    rates = [row.necrosis_rate for row in rows if row.necrosis_rate is not None]
    typer.echo(f"wrote {out / 'slides.csv'}: {len(rows)} slides of {what}")
    typer.echo(f"      necrosis rates {min(rates):.2f} to {max(rates):.2f}; masks/, annotations/: what is where")
