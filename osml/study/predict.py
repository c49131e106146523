"""`osml predict`: a table in, exactly one row out for every row in; bad rows are named and do not stop the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from osml.files import atomic_write
from osml.serving import EQUAL_SHARES, load, patient_sheet, patients_csv, read_patients, rows_csv

SHOWN = 5


def predict_table(
    source: Path,
    table_path: Path,
    out: Path,
    predictor: str | None,
    say: Callable[[str], None],
    *,
    trust: bool = False,
    sheets: Path | None = None,
) -> int:
    """Write predictions of a run's or bundle's model; returns the number of rows without one.

    Paths of images are relative to the table's folder. Where predictions are of rows, a second file beside `out` holds
    the means of each patient.

    Parameters
    ----------
    trust : whether files that run code may be read, see `osml.serving.load`
    sheets : folder for a PDF sheet of each row that has a prediction, named by its line
    """
    model = load(source, predictor, trust=trust)
    table = read_patients(table_path, model)
    rows = model.predict(table, root=table_path.parent)
    atomic_write(out, rows_csv(model, rows))
    means = patients_csv(model, rows)
    beside = out.with_name(f"{out.stem}_by_patient{out.suffix}")
    if means is not None:
        atomic_write(beside, means)
    bad = [row for row in rows if not row.ok]
    say(f"predicted {len(rows) - len(bad)} of {len(rows)} rows with {model.name!r} → {out}")
    if means is not None:
        say(f"means of each patient → {beside}")
    if sheets is not None:
        good = [i for i, row in enumerate(rows) if row.ok]
        for i in good:
            atomic_write(sheets / f"line-{rows[i].line}.pdf", patient_sheet(model, table, i, root=table_path.parent))
        say(f"sheets of {len(good)} rows → {sheets}")
    for row in bad[:SHOWN]:
        say(f"  {table_path.name}:{row.line}: {row.status}")
    if len(bad) > SHOWN:
        say(f"  … and {len(bad) - SHOWN} more; see the status column")
    if model.withheld:
        say(f"  {model.withheld}")
    if model.equal_shares:
        say(f"  {EQUAL_SHARES}")
    if model.facts["synthetic"]:
        say(f"  SYNTHETIC: {model.facts['synthetic']}")
    return len(bad)
