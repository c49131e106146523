"""Where networks run: `--device`, kept in the environment so that worker processes agree; and on how many threads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from osml.errors import InvalidInputError

VARIABLE = "OSML_DEVICE"


def choose_device() -> str:
    """cuda where there is a card and nothing else is asked for (`$OSML_DEVICE`: auto, cpu, cuda, cuda:1), else cpu.

    Raises
    ------
    InvalidInputError
        A GPU is asked for and there is none, or the name is not one of these.
    """
    wanted = os.environ.get(VARIABLE, "auto") or "auto"
    if wanted == "cpu":
        return "cpu"
    if wanted != "auto" and wanted.partition(":")[0] != "cuda":
        raise InvalidInputError(f"device {wanted!r}", do="Use auto, cpu, cuda or cuda:1.")
    import torch

    if torch.cuda.is_available():
        return "cuda" if wanted == "auto" else wanted
    if wanted == "auto":
        return "cpu"
    raise InvalidInputError(
        f"device {wanted} is asked for, and torch {torch.__version__} finds no GPU",
        do="Leave --device out, or install a torch with CUDA.",
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """One CPU thread for torch: sums keep their order, and a second thread would spin for work and take a core away.

    The engine's own limit does not reach torch when a task is the first to import it. The number is shared by threads
    that start later, so it is put back.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
