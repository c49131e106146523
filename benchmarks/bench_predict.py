"""Time and memory of prediction: the command on a large table, one patient through serving, a page of the app."""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from osml.files import write_csv
from osml.serving import Model, load
from osml.serving.launch import RUN_VARIABLE, app_script
from osml.study.fit import fit
from osml.synthetic.nac import COLUMNS, simulate_nac

SCHEMA = Path(__file__).resolve().parents[1] / "configs" / "mri_nac_response.yaml"
CELLS = {"age": "17", "sex": "male", "location": "femur", "diameter": "100", "fracture": "Yes", "alp": "210", "ldh": ""}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, help="a finished run of configs/mri_nac_response.yaml; default: fit one")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--predictions", type=int, default=1_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = arguments.run or fitted(Path(folder))
        command_time(run, arguments.rows, Path(folder))
        serving_time(load(run), arguments.predictions)
        page_time(run)


def fitted(folder: Path) -> Path:
    """A small run to serve; fitting it is not measured."""
    write_csv(folder / "patients.csv", COLUMNS, simulate_nac(93, 2026).rows)
    os.environ["DATA"] = str(folder)
    quick = ["validation.split.folds=2", "validation.split.repeats=1"]
    return fit(SCHEMA, overrides=quick, runs=folder / "runs", say=lambda line: None, quiet=True).run.path


def command_time(run: Path, rows: int, folder: Path) -> None:
    """Wall-clock time of `osml predict`, interpreter start included."""
    table, out = folder / "new.csv", folder / "predictions.csv"
    write_csv(table, COLUMNS, simulate_nac(rows, 7).rows)
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", "from osml.cli import main; main()", "predict", str(run), str(table), "-o", str(out)],
        check=True,
        capture_output=True,
    )
    print(f"osml predict: {time.perf_counter() - start:.2f} s for {rows} rows, start-up included (target 5 s)")


def serving_time(model: Model, n: int) -> None:
    """One patient: prediction, explanation and gaps; the sheet; and what a thousand predictions leave behind."""

    def once() -> None:
        table = model.one_row(CELLS)
        model.predict(table)
        model.explain(table)
        model.gaps(table)

    once()
    times = []
    for _ in range(50):
        start = time.perf_counter()
        once()
        times.append(time.perf_counter() - start)
    print(f"one patient: {1e3 * statistics.median(times):.1f} ms, explanation included (target 300 ms)")
    start = time.perf_counter()
    model.sheet(model.one_row(CELLS))
    print(f"one sheet as PDF: {time.perf_counter() - start:.2f} s, first one")
    gc.collect()
    before = resident_mb()
    for _ in range(n):
        once()
    gc.collect()
    print(f"memory: {resident_mb() - before:+.1f} MB over {n} predictions (from {before:.0f} MB)")


def page_time(run: Path) -> None:
    """The first page of the app without a browser: imports, loading and verifying the model, the form."""
    if find_spec("streamlit") is None:
        print("streamlit is not installed: no page was timed")
        return
    script = app_script()
    code = (
        "import sys, time; start = time.perf_counter()\n"
        f"sys.path.insert(0, {str(script.parent)!r})\n"
        "from streamlit.testing.v1 import AppTest\n"
        f"app = AppTest.from_file({str(script)!r}, default_timeout=60).run()\n"
        "assert not app.exception and app.text_input\n"
        "first = time.perf_counter() - start; start = time.perf_counter(); app.run()\n"
        "print(f'{first:.2f} s first page of a fresh process (target 3 s), {time.perf_counter() - start:.2f} s again')"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {RUN_VARIABLE: str(run)}, check=True, capture_output=True, text=True,
    )  # fmt: skip
    print(f"app: {result.stdout.strip()}")


def resident_mb() -> float:
    """Resident memory of this process (Linux)."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main()
