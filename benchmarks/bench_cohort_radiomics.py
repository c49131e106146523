"""A cohort's radiomics from files: wall time and memory of a first run, time of a second one from the cache.

python benchmarks/bench_cohort_radiomics.py IMAGES.csv [--workers 2]
IMAGES.csv: patient, image, mask, as for `osml radiomics extract`. Seven regions, 14 filtered images.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

SECONDS, GIBIBYTES, SECONDS_CACHED = 150.0, 2.0, 3.0
FILTERS = {"all": "filters: [original, wavelet, log]\nlog_sigma_mm: [1, 2, 3, 4, 5]", "original": "filters: [original]"}
SETTINGS = """
regions: mri-rings
{filters}
spacing_mm: [1, 1, 3]
normalise: image
normalise_scale: 100
bin_width: 25
max_levels: 1000
leaving: {leaving}
classes: {classes}
"""
ALL = "[firstorder, shape, glcm, glrlm, glszm, gldm, ngtdm]"


class Watch(threading.Thread):
    """Largest sum of resident memory of a process and its descendants, in bytes (Linux)."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.peak, self.over = pid, 0, False

    def run(self) -> None:
        while not self.over:
            self.peak = max(self.peak, sum(map(_resident, _family(self.pid))))
            time.sleep(0.1)


def _family(pid: int) -> list[int]:
    out = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        out += [member for child in _read(task).split() for member in _family(int(child))]
    return out


def _resident(pid: int) -> int:
    lines = [line for line in _read(Path(f"/proc/{pid}/status")).splitlines() if line.startswith("VmRSS:")]
    return int(lines[0].split()[1]) * 1024 if lines else 0


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # the process has ended
        return ""


def command(images: Path, folder: Path, workers: int, settings: str) -> list[str]:
    """The command line of one run, as a user would type it."""
    (folder / "settings.yaml").write_text(settings)
    code = "from osml.cli import main; main()"
    options = ["--settings", str(folder / "settings.yaml"), "--cache", str(folder / "cache"), "--quiet"]
    out = ["-o", str(folder / "features.parquet"), "--workers", str(workers)]
    return [sys.executable, "-c", code, "radiomics", "extract", str(images), *out, *options]


def timed(arguments: list[str]) -> tuple[float, float, float, str]:
    """Seconds, CPU seconds, peak memory in GiB, and the last line of one run in a fresh process."""
    start, before = time.monotonic(), _cpu()
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    watch = Watch(process.pid)
    watch.start()
    said = process.communicate()[0]
    watch.over = True
    return time.monotonic() - start, _cpu() - before, watch.peak / 2**30, said.strip().splitlines()[-1]


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = command(
            arguments.images,
            folder,
            arguments.workers,
            SETTINGS.format(filters=FILTERS["all"], leaving="clip", classes=ALL),
        )
        for what, limit in (("first run", SECONDS), ("from the cache, fresh process", SECONDS_CACHED)):
            wall, cpu, memory, last = timed(run)
            words = f"{wall:.1f} s (target {limit:g}), {cpu:.0f} s CPU"
            print(f"{what}: {words}, peak {memory:.2f} GiB (target {GIBIBYTES:g})\n  {last}", flush=True)
        plain = SETTINGS.format(filters=FILTERS["original"], leaving="refuse", classes="[shape]")
        wall, _, _, last = timed(command(arguments.images, folder, arguments.workers, plain))
        print(f"rings that leave the image refused (`leaving: refuse`), shape only: {wall:.1f} s\n  {last}")


if __name__ == "__main__":
    main()
