"""Time and memory of prediction: a large table, one patient through serving, MRI, radiographs, a page of the app."""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from ruamel.yaml import YAML

from osml.files import write_csv
from osml.serving import Model, load, read_patients
from osml.serving.launch import RUN_VARIABLE, app_script
from osml.study.fit import fit
from osml.synthetic.nac import COLUMNS, simulate_nac

SCHEMA = Path(__file__).resolve().parents[1] / "configs" / "mri_nac_response.yaml"
XRAY_SCHEMA = SCHEMA.with_name("xray_lab_fusion.yaml")
CELLS = {"age": "17", "sex": "male", "location": "femur", "diameter": "100", "fracture": "Yes", "alp": "210", "ldh": ""}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, help="a finished run of the clinical predictors; default: fit one")
    parser.add_argument(
        "--mri-run", type=Path, help="a finished run of configs/mri_nac_response.yaml; default: fit one"
    )
    parser.add_argument("--mri-only", action="store_true")
    parser.add_argument("--xray-run", type=Path, help="a finished run with a network on radiographs; default: fit one")
    parser.add_argument("--xray-only", action="store_true")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--predictions", type=int, default=1_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        network_time(arguments.xray_run or fitted_xray(Path(folder) / "xray"))
        if arguments.xray_only:
            return
        mri_time(arguments.mri_run or fitted_mri(Path(folder)), Path(folder))
        if arguments.mri_only:
            return
        run = arguments.run or fitted(Path(folder))
        command_time(run, arguments.rows, Path(folder))
        serving_time(load(run), arguments.predictions)
        page_time(run)


def fitted(folder: Path) -> Path:
    """A small run of cells only; fitting it is not measured."""
    write_csv(folder / "patients.csv", COLUMNS, simulate_nac(93, 2026).rows)
    return quick_fit(folder, inputs=[*CELLS], predictors={})


def fitted_mri(folder: Path) -> Path:
    """A small run with images, features as the study states them; fitting it is not measured."""
    from osml.synthetic.nac_images import write_nac_images

    write_nac_images(folder, patients=24, seed=2026)
    os.environ["OSML_CACHE"] = str(folder / "cache")
    scores = {
        "radscore": {"kind": "radscore", "inputs": ["rad"], "region": "tumour"},
        "combined": {"kind": "nomogram", "inputs": ["age", "alp", "radscore"]},
    }
    return quick_fit(folder, inputs=[*CELLS, "t2", "rad"], predictors=scores)


def fitted_xray(folder: Path) -> Path:
    """A small run of a network on radiographs and the table; fitting it is not measured."""
    from osml.synthetic.xray import write_xray

    write_xray(folder, patients=30, seed=2026)
    os.environ["OSML_CACHE"] = str(folder / "cache")
    data = YAML(typ="safe", pure=True).load(XRAY_SCHEMA.read_text(encoding="utf-8"))
    data["cohort"]["table"] = "radiographs.csv"
    data["predictors"] = {"fused": {**data["predictors"]["fused"], "ablation": "none"}}
    data["predictors"]["fused"]["train"] = {"epochs": 10}
    data["validation"] |= {"split": {"kind": "kfold", "folds": 2}, "inner": {"folds": 2}}
    data["checks"] = {"accept": dict.fromkeys(("OSML041", "OSML042"), "a benchmark")}
    data.pop("report", None)
    schema = folder / "study.yaml"
    schema.write_text(json.dumps(data), encoding="utf-8")
    return fit(schema, runs=folder / "runs", say=lambda line: None, quiet=True).run.path


def network_time(run: Path) -> None:
    """One radiograph as an uploaded file: the first of a process builds and checks the encoder; Grad-CAM beside it."""
    from PIL import Image

    start, cpu = time.perf_counter(), time.process_time()
    model = load(run, "fused")
    print(f"network: loaded and verified in {time.perf_counter() - start:.2f} s, CPU {time.process_time() - cpu:.2f} s")
    cells = {"age": "15", "sex": "male", "alp": "300", "alp_low": "45", "alp_high": "125", "ldh": "250"}
    cells |= {"ldh_low": "120", "ldh_high": "250"}
    image = model.images()[0].key
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        for k, words in ((0, "first: the encoder is built"), (1, "the next"), (2, "and the next")):
            grey = np.kron(rng.integers(0, 255, (300, 250)), np.ones((8, 8))).astype(np.uint8)
            file = Path(folder) / f"{k}.png"
            Image.fromarray(grey).save(file)
            start, cpu, child = time.perf_counter(), time.process_time(), os.times().children_user
            table = model.one_row(cells, images={image: file})
            row = model.predict(table)[0]
            own, other = time.process_time() - cpu, os.times().children_user - child
            print(f"radiograph of 2000 × 2400 px to prediction: {time.perf_counter() - start:.2f} s (target 2 s), CPU "
                  f"{own:.2f} s here and {other:.2f} s in the process that decodes: {words}; {row.status}")  # fmt: skip
    start = time.perf_counter()
    model.explain(table)
    print(f"contributions of its inputs: {time.perf_counter() - start:.2f} s")
    start = time.perf_counter()
    model.grad_cam(table)
    print(f"Grad-CAM: {time.perf_counter() - start:.2f} s")


def quick_fit(folder: Path, inputs: list[str], predictors: dict[str, object]) -> Path:
    """The study of SCHEMA with these inputs, two folds; with its clinical predictor, or these instead."""
    data = YAML(typ="safe", pure=True).load(SCHEMA.read_text(encoding="utf-8"))
    data["cohort"]["table"] = "patients.csv"
    data["inputs"] = {name: data["inputs"][name] for name in inputs}
    data["inputs"].get("rad", {}).pop("stability", None)
    data["predictors"] = predictors or {"clinical": data["predictors"]["clinical"]}
    data["validation"] |= {"split": {"kind": "kfold", "folds": 2}, "inner": {"folds": 3}}
    data["validation"].pop("optimism")
    data["checks"] = {"accept": dict.fromkeys(("OSML041", "OSML042"), "a benchmark")}
    data.pop("report")
    schema = folder / "study.yaml"
    schema.write_text(json.dumps(data), encoding="utf-8")
    return fit(schema, runs=folder / "runs", say=lambda line: None, quiet=True).run.path


def mri_time(run: Path, folder: Path) -> None:
    """One patient with MRI of 384 × 384 × 26 voxels and its mask: from paths, then as uploaded files."""
    import SimpleITK

    from osml.imaging.volume import to_sitk
    from osml.synthetic.mri import simulate_scan

    files = {}
    model = load(run, "combined")
    for k in range(3):
        scan = simulate_scan(100.0, 0.0, np.random.default_rng(k), size="paper")
        for key, volume in (("t2", scan.image), ("t2.mask", scan.mask)):
            files[key, k] = folder / f"{key}{k}.nii.gz"
            SimpleITK.WriteImage(to_sitk(volume), str(files[key, k]), True)
    columns = ("patient_id", *CELLS, "t2_path", "t2_mask")
    for k, words in ((0, "first in this process, compiled code loaded"), (1, "the next"), (1, "again, from the cache")):
        cells = [f"x{k}", *CELLS.values(), files["t2", k].name, files["t2.mask", k].name]
        write_csv(folder / "one.csv", (*columns, "ldh_low", "ldh_high"), [[*cells, "120", "250"]])
        start, cpu = time.perf_counter(), time.process_time()
        row = model.predict(read_patients(folder / "one.csv", model), root=folder)[0]
        print(f"MRI and mask from paths: {time.perf_counter() - start:.2f} s, of the CPU "
              f"{time.process_time() - cpu:.2f} s: {words}; {row.status}")  # fmt: skip
    for k, words in ((2, "a process of its own, its start included"), (2, "again; nothing was kept")):
        given = {"t2": files["t2", k], "t2.mask": files["t2.mask", k]}
        asked = {field.name for field in model.form()}
        cells = {name: text for name, text in CELLS.items() if name in asked}
        start, before = time.perf_counter(), os.times().children_user
        row = model.predict_images(cells, given)
        print(f"MRI and mask as files: {time.perf_counter() - start:.2f} s (target 5 s), of the CPU "
              f"{os.times().children_user - before:.2f} s: {words}; {row.status}")  # fmt: skip


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
