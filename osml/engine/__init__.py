"""Where tasks run: in this process or on this machine's cores, one BLAS thread each, with progress and cancel.

The number of workers never changes a result: a task sees only its own item, and its arithmetic runs on one thread
wherever it runs. A task that raises is reported with its traceback and does not end the others; nor does one whose
worker dies.
"""

from __future__ import annotations

from osml.engine.progress import Progress
from osml.engine.run import run_tasks
from osml.engine.task import Outcome, cores, single_thread

__all__ = ["Outcome", "Progress", "cores", "run_tasks", "single_thread"]
