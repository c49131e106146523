"""Where tasks run: in this process, on this machine's cores or on a Ray cluster, one BLAS thread each.

The place and the number of workers never change a result: a task sees only its own item, and its arithmetic runs on
one thread wherever it runs. A task that raises is reported with its traceback and does not end the others; nor does one
whose worker dies.
"""

from __future__ import annotations

from osml.engine.place import Place, current_place, far_away, on
from osml.engine.progress import Progress
from osml.engine.run import run_tasks, slots
from osml.engine.task import Outcome, cores, single_thread

__all__ = [
    "Outcome",
    "Place",
    "Progress",
    "cores",
    "current_place",
    "far_away",
    "on",
    "run_tasks",
    "single_thread",
    "slots",
]
