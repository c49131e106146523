"""What a finished run left behind, for showing: tables, figures, metrics. No patient's id or row is handed out."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from osml.errors import RunError
from osml.files import read_json


@dataclass(frozen=True)
class Grid:
    """A table as text: header and rows, and the note that stands under it."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Figure:
    """A drawn figure of the report: SVG or PNG bytes, the PDF where there is one, and the numbers it shows."""

    name: str
    image: bytes
    kind: str
    pdf: bytes | None
    data: Grid | None


@dataclass(frozen=True)
class Results:
    """The folder of a run, read on request."""

    path: Path

    def metrics(self) -> dict[str, Any]:
        """Content of metrics.json."""
        file = self.path / "metrics.json"
        if not file.is_file():
            raise RunError(f"the run at {self.path} has no metrics.json", do="Run `osml fit` again.")
        metrics: dict[str, Any] = read_json(file)
        return metrics

    def leaderboard(self) -> Grid | None:
        """One row per predictor, held-out values, rounded for reading; the file has all digits."""
        grid = read_grid(self.path / "leaderboard.csv")
        if grid is None:
            return None
        header = tuple(" ".join(_HEADINGS.get(word, word) for word in name.split("_")) for name in grid.header)
        return Grid(header, tuple(tuple(_rounded(cell) for cell in row) for row in grid.rows), grid.note)

    def tables(self, prefix: str = "") -> dict[str, Grid]:
        """Tables of the run by name, e.g. `table_one`."""
        folder = self.path / "tables"
        grids = {file.stem: read_grid(file) for file in sorted(folder.glob("*.csv")) if file.stem.startswith(prefix)}
        return {name: grid for name, grid in grids.items() if grid is not None}

    def figures(self, kind: str, predictor: str = "", endings: Sequence[str] = ("",)) -> list[Figure]:
        """Figures `<kind>_<predictor><ending>` of the report; empty when no report was made.

        Each name is given in full: "shap_clinical_paper" is not a figure of the predictor "clinical".
        """
        folder = self.path / "report" / "figures"
        stem = f"{kind}_{predictor}" if predictor else kind
        wanted = [stem + ending for ending in endings]
        return [_figure(folder, name) for name in wanted if _image(folder, name) is not None]

    def flow(self) -> Grid:
        """Rows, patients, exclusions by reason: counts only."""
        summary = self._summary()
        rows = [("Rows of the table", str(summary["rows"]))]
        rows += [(f"Excluded: {reason}", str(n)) for reason, n in summary["excluded"].items()]
        rows += [("Patients", str(summary["patients"]))]
        if summary["units"] != summary["patients"]:
            rows.append(("Rows used", str(summary["units"])))
        if summary["events"] is None:
            rows += [(name, str(n)) for name, n in summary["outcomes"].items()]
        else:
            rows.append(("Events", str(summary["events"])))
        return Grid(("Step", "Count"), tuple(rows))

    def missing(self) -> Grid:
        """Missing cells by input."""
        summary = self._summary()
        n = max(1, summary["units"])
        rows = tuple((name, str(k), f"{100 * k / n:.1f} %") for name, k in summary["missing"].items())
        return Grid(("Input", "Missing", "Share"), rows)

    def checks(self) -> Grid:
        """Coded checks that fired; evidence that names patients is left out."""
        file = self.path / "cohort" / "checks.json"
        found = read_json(file) if file.is_file() else []
        rows = tuple(
            (
                f["code"],
                f["severity"],
                f["title"],
                f["subject"],
                "" if f["code"] in _NAMES_PATIENTS else f["evidence"],
                f["accepted"] or "",
            )
            for f in found
        )
        return Grid(("Code", "Severity", "Check", "Subject", "Evidence", "Accepted because"), rows)

    def model_card(self) -> str | None:
        """Text of model_card.md."""
        file = self.path / "model_card.md"
        return file.read_text(encoding="utf-8") if file.is_file() else None

    def _summary(self) -> dict[str, Any]:
        summary: dict[str, Any] = read_json(self.path / "cohort" / "summary.json")
        return summary


# Findings whose evidence lists patient ids.
_NAMES_PATIENTS = ("OSML015",)


def results_of(bundle: Path) -> Results | None:
    """The run that a bundle lies in; None for a bundle that was copied elsewhere."""
    folder = bundle.parent
    status = folder / "status.json"
    if bundle.name != "bundle" or not status.is_file() or read_json(status).get("state") != "finished":
        return None
    return Results(folder)


def read_grid(path: Path) -> Grid | None:
    """A CSV of the run with the note beside it; None when it was not written."""
    if not path.is_file():
        return None
    with path.open(newline="", encoding="utf-8") as stream:
        lines = list(csv.reader(stream))
    note = path.with_name(f"{path.stem}.note.txt")
    words = note.read_text(encoding="utf-8").strip() if note.is_file() else ""
    return Grid(tuple(lines[0]), tuple(tuple(line) for line in lines[1:]), words) if lines else None


_HEADINGS = {"auc": "AUC", "c": "C", "brier": "Brier", "f1": "F1"}


def _rounded(cell: str) -> str:
    try:
        number = float(cell)
    except ValueError:
        return cell
    return cell if number.is_integer() else f"{number:.3f}"


def _image(folder: Path, stem: str) -> Path | None:
    return next((file for kind in ("svg", "png") if (file := folder / f"{stem}.{kind}").is_file()), None)


def _figure(folder: Path, stem: str) -> Figure:
    image = _image(folder, stem)
    if image is None:
        raise RunError(f"the report has no figure {stem!r}")
    pdf = folder / f"{stem}.pdf"
    return Figure(
        name=stem,
        image=image.read_bytes(),
        kind=image.suffix[1:],
        pdf=pdf.read_bytes() if pdf.is_file() else None,
        data=read_grid(folder / f"{stem}.csv"),
    )
