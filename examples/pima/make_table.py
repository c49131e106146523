"""Join the training and the test table of the Pima data into one, with a column `set` that says who is in which.

python make_table.py [FOLDER WITH pima_tr.csv AND pima_te.csv] [FILE TO WRITE]
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

HERE = Path(__file__).parent
DATA = HERE.parents[1] / "tests" / "reference" / "r" / "data"


def join(data: Path, out: Path) -> int:
    """Write patients.csv; returns the number of patients."""
    rows = []
    for name, where in (("pima_tr", "training"), ("pima_te", "test")):
        with (data / f"{name}.csv").open(newline="", encoding="utf-8") as stream:
            for record in csv.DictReader(stream):
                number = record.pop("row")
                rows.append({"patient": f"{where}-{number}", "set": where, **record})
    with out.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return len(rows)


if __name__ == "__main__":
    arguments = [Path(text) for text in sys.argv[1:]]
    source = arguments[0] if arguments else DATA
    target = arguments[1] if len(arguments) > 1 else HERE / "patients.csv"
    print(f"wrote {target}: {join(source, target)} patients")
