"""How Lightning Fabric starts the processes of a training: without a word on the terminal."""

from __future__ import annotations

import logging

from lightning_fabric.strategies import DDPStrategy


class QuietSpawn(DDPStrategy):
    """Processes started afresh on this machine, one per device."""

    def setup_environment(self) -> None:
        """Join the others; Fabric would tell of each."""
        logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
        super().setup_environment()
