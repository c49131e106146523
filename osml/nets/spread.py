"""One training over several devices (Lightning Fabric): each encodes its share of a batch's pictures, all do the rest.

Only encoders that are trained are worth it. Every device draws the same rows, augmentation and dropout, and sees the
vectors of the whole batch behind the encoders, so that batch statistics, a Cox risk set and the loss are those of one
device; gradients differ from its by rounding. An encoder's own dropout and batch statistics are of a device's share.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from osml.errors import OsmlError, WorkerLostError, missing_extra
from osml.nets.branches import Items
from osml.nets.network import Network, Outputs

if TYPE_CHECKING:
    from lightning_fabric import Fabric

# Set by Fabric for its processes; left in place, all later trainings would share one port.
_FABRICS = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")


class Spread:
    """This process's part in a training over several."""

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self.rank, self.size = int(fabric.global_rank), int(fabric.world_size)
        self.device = str(fabric.device)

    def forward(self, network: Network, batch: Mapping[str, Items], n: int) -> Outputs:
        """`network(batch, n)`, its pictures encoded by all devices together."""
        items = [self._encoded(network, k, batch[m.name]) for k, m in enumerate(network.recipe.modalities)]
        return network.fused(items, n)

    def reduce(self, network: Network, objective: nn.Module) -> None:
        """After the backward pass: the gradient of the whole batch, the same on all devices."""
        scaled = []
        for name, parameter in (*network.named_parameters(), *objective.named_parameters()):
            gradient = parameter.grad
            if gradient is not None:  # on all devices, or on none
                # An encoder knows the gradient of its share; all else has the whole one already.
                scaled.append((parameter, gradient if name.startswith("encoders.") else gradient / self.size))
        whole = self._summed(torch.cat([gradient.flatten() for _, gradient in scaled]))
        at = 0
        for parameter, gradient in scaled:
            parameter.grad = whole[at : at + gradient.numel()].view_as(gradient)
            at += gradient.numel()

    def level(self, network: Network) -> None:
        """Batch statistics become their mean over the devices."""
        with torch.no_grad():
            for name, tensor in network.trained():
                buffer = not isinstance(tensor, nn.Parameter) and tensor.is_floating_point()
                if buffer and name.startswith("encoders."):
                    tensor.copy_(self._summed(tensor.clone()) / self.size)

    def agreed(self, value: float) -> float:
        """The first device's value: what all decide by."""
        return float(self._fabric.broadcast(value))

    def together(self) -> None:
        """Wait for all devices."""
        self._fabric.barrier()

    def _encoded(self, network: Network, k: int, items: Items) -> Items:
        n = len(items.values)
        if str(k) not in network.encoders or n == 0:
            return network.encoded(k, items)
        edges = [n * rank // self.size for rank in range(self.size + 1)]
        low, high = edges[self.rank], edges[self.rank + 1]
        # A device without a share of a small batch encodes one picture for nothing, and keeps none of it.
        shown = slice(low, max(high, low + 1)) if low < n else slice(0, 1)
        mine = network.encoded(k, Items(items.values[shown], items.owner[shown])).values[: high - low]
        most = -(-n // self.size)
        padded = torch.zeros(most, mine.shape[1], device=mine.device, dtype=mine.dtype)
        padded[: high - low] = mine.detach()
        every: Any = self._fabric.all_gather(padded)
        parts = [
            mine if rank == self.rank else every[rank, : edges[rank + 1] - edges[rank]] for rank in range(self.size)
        ]
        return Items(torch.cat(parts), items.owner)

    def _summed(self, tensor: Tensor) -> Tensor:
        return self._fabric.all_reduce(tensor, reduce_op="sum")  # type: ignore[return-value]


def launch(devices: int, device: str, function: Callable[[Spread], OsmlError | None]) -> None:
    """Call a function in one process per device; the error that it returns in the first is raised here.

    Raises
    ------
    MissingExtraError
        Lightning Fabric is not installed.
    WorkerLostError
        A process died.
    """
    require_fabric()
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments import LightningEnvironment
    from torch.multiprocessing import ProcessExitedException

    from osml.nets.spread_strategy import QuietSpawn

    strategy = QuietSpawn(start_method="spawn")
    with _environment_kept():
        fabric = Fabric(
            accelerator=torch.device(device).type, devices=devices, strategy=strategy, plugins=[LightningEnvironment()]
        )
        try:
            error = fabric.launch(_Part(function))
        except ProcessExitedException as died:
            raise WorkerLostError(
                f"a process of the training over {devices} devices died: {died}",
                why="Most often memory does not suffice.",
                do="Use one device, a smaller batch, or pictures of fewer pixels.",
            ) from died
    if error is not None:
        raise error


class _Part:
    """A function for Fabric, which would look for tensors in a bare one's arguments."""

    def __init__(self, function: Callable[[Spread], OsmlError | None]) -> None:
        self.function = function

    def __call__(self, fabric: Fabric) -> OsmlError | None:
        return self.function(Spread(fabric))


def require_fabric() -> None:
    """Raise MissingExtraError where Lightning Fabric is absent."""
    try:
        import lightning_fabric  # noqa: F401
    except ImportError as error:
        raise missing_extra("lightning_fabric", "multigpu", "one training over several devices") from error


@contextmanager
def _environment_kept() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in _FABRICS}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
