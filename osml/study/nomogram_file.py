"""`osml nomogram`: a fitted nomogram in the format that the file's ending asks for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from osml.errors import InvalidInputError
from osml.files import atomic_write
from osml.nomogram import draw, to_json
from osml.nomogram.calculator import calculator
from osml.nomogram.table import points_table
from osml.serving import load, read_patients

DRAWN = (".pdf", ".svg", ".png")
EXPORTED = (".html", ".csv", ".json")


def write_nomogram(
    source: Path,
    out: Path,
    page: str,
    theme: str,
    patient: Path | None,
    predictor: str | None,
    fonts: Sequence[Path],
    *,
    trust: bool = False,
) -> Path:
    """Write one file; `patient` is a table with exactly one row, whose lines are drawn and whose id is not.

    Parameters
    ----------
    trust : whether files that run code may be read, see `osml.serving.load`: of a predictor that feeds the nomogram
    """
    model = load(source, predictor, trust=trust)
    ending = out.suffix.lower()
    if ending not in DRAWN + EXPORTED:
        raise InvalidInputError(f"cannot write {out.name!r}", do=f"Endings: {', '.join(DRAWN + EXPORTED)}.")
    if page not in ("a4", "letter", "column") or theme not in ("print", "screen"):
        raise InvalidInputError(
            f"--page {page!r}, --theme {theme!r}", do="Pages: a4, letter, column. Themes: print, screen."
        )
    if model.nomogram is None:
        raise model.no_nomogram()
    if patient is not None and ending not in DRAWN:
        raise InvalidInputError("--patient is for drawings", do="Give a .pdf, .svg or .png.")
    if ending == ".html":
        atomic_write(out, calculator(model.nomogram, fonts=fonts))
    elif ending == ".csv":
        atomic_write(out, points_table(model.nomogram).to_csv())
    elif ending == ".json":
        atomic_write(out, to_json(model.nomogram))
    else:
        sheet, values = model.nomogram, None
        if patient is not None:
            table = read_patients(patient, model)
            if len(table.rows) != 1:
                raise InvalidInputError(f"{patient.name} has {len(table.rows)} rows; a sheet is for one patient")
            sheet, values = model.worked(table, root=patient.parent)
        out.parent.mkdir(parents=True, exist_ok=True)
        part = out.with_name(f".part.{out.name}")
        draw(sheet, part, page=page, theme=theme, patient=values, fonts=fonts)  # type: ignore[arg-type]
        part.replace(out)
    return out
