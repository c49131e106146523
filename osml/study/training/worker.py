"""What the app starts for a job: `osml fit`, after whoever predicts, with its outcome in a file."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import TracebackType

from osml.errors import EXIT_FINE, EXIT_INTERNAL, OsmlError
from osml.files import read_json, write_json
from osml.study.training.process import OUTCOME, PID, STARTED
from osml.study.training.workspace import Job, without_folders

NICE = 10


def main(folder: str, workers: str) -> int:
    """Fit the job in a folder; returns the exit code."""
    from osml.study.fit import fit
    from osml.study.prepare import PlanChoice
    from osml.study.terminal import show
    from osml.study.training.judge import judge, require_ready

    job = Job(Path(folder))
    write_json(job.path / PID, {"pid": os.getpid()})
    os.nice(NICE)  # visitors who predict come first
    settings = read_json(job.path / STARTED)
    _say(f"=== {settings['time']}")
    with _Recorded(job.path / OUTCOME):
        require_ready(judge(job, job.text(), trust=settings["trust"]))
        result = fit(
            job.schema_path,
            runs=job.path / "runs",
            workers=int(workers),
            say=_say,
            quiet=True,
            plan=PlanChoice(None, settings["preset"], settings["limit"]),
        )
        show(result, _say)
        code = EXIT_INTERNAL if result.ended_badly else EXIT_FINE
        write_json(
            job.path / OUTCOME,
            {
                "code": code,
                "run": str(result.run.path.resolve().relative_to(job.path.resolve())),
                "failed": list(result.failed),
                "skipped": list(result.skipped),
            },
        )
        return code


def _say(line: str) -> None:
    print(line, flush=True)


class _Recorded:
    """Leaves what went wrong where the app finds it; the traceback of an internal error goes to the log."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, (SystemExit, KeyboardInterrupt)):
            return
        if isinstance(error, OsmlError):
            here = f"{self.path.parent}/"
            words = {"what": error.what, "why": error.why, "do": error.do}
            words = {key: without_folders(text.replace(here, "")) for key, text in words.items()}
            write_json(self.path, {"code": error.exit_code, "error": words})
            _say(f"{type(error).__name__}: {error}")
            sys.exit(error.exit_code)
        memory = isinstance(error, MemoryError)
        what = "the memory of the server was not enough" if memory else f"an internal error ({type(error).__name__})"
        words = {
            "what": what,
            "why": "",
            "do": "Finished folds are kept. Whoever runs the server finds more in the log.",
        }
        write_json(self.path, {"code": EXIT_INTERNAL, "error": words})


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
