"""Where networks run: `--device`, kept in the environment so that worker processes agree; and on how many threads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from osml.errors import InvalidInputError

VARIABLE = "OSML_DEVICE"
# How many devices one training uses: `--devices`, inherited by workers like the device itself.
DEVICES = "OSML_DEVICES"


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


def gpu_share() -> float:
    """GPUs that one training takes, where there are any: two share a card, and one over several has them to itself."""
    wanted = os.environ.get(DEVICES, "1")
    return float(wanted) if wanted.isdecimal() and int(wanted) > 1 else 0.5


def choose_devices(device: str) -> int:
    """How many devices of this kind one training uses (`$OSML_DEVICES`, default 1).

    Raises
    ------
    InvalidInputError
        There are not so many, or one card is named.
    MissingExtraError
        Several are asked for and Lightning Fabric is not installed.
    """
    wanted = os.environ.get(DEVICES, "1") or "1"
    if not wanted.isdecimal() or int(wanted) < 1:
        raise InvalidInputError(f"devices {wanted!r}: a number from 1 is expected")
    count = int(wanted)
    if count == 1:
        return 1
    from osml.nets.spread import require_fabric

    require_fabric()
    if device.startswith("cuda:"):
        raise InvalidInputError(f"{count} devices are asked for, and one card is named: {device}")
    if device == "cuda":
        import torch

        if torch.cuda.device_count() < count:
            raise InvalidInputError(
                f"{count} devices are asked for, and there are {torch.cuda.device_count()} GPUs",
                do=f"Use --devices {torch.cuda.device_count()}, or more with --device cpu.",
            )
    return count


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
