"""Progress of many tasks, as lines of text."""

from __future__ import annotations

import sys
import time
from typing import TextIO


class Progress:
    """Counts finished tasks; a line with the time left on a terminal, one plain line per tenth elsewhere."""

    def __init__(self, label: str, total: int, stream: TextIO | None = None, quiet: bool = False) -> None:
        self.label, self.total, self.done = label, total, 0
        self.stream = stream if stream is not None else sys.stderr
        self.quiet = quiet or total == 0
        self.started = time.monotonic()
        self._last_tenth = 0

    def step(self) -> None:
        """One more task is done."""
        self.done += 1
        if self.quiet:
            return
        elapsed = time.monotonic() - self.started
        left = elapsed / self.done * (self.total - self.done)
        rate = f"{60 * self.done / max(elapsed, 1e-9):.3g}/min"
        if self.stream.isatty():
            end = "\n" if self.done == self.total else ""
            self.stream.write(f"\r{self.label:<10}{self.done}/{self.total}  {_clock(left)} left  {rate} \x1b[K{end}")
        else:
            tenth = 10 * self.done // self.total
            if tenth == self._last_tenth and self.done != self.total:
                return
            self._last_tenth = tenth
            self.stream.write(f"{self.label:<10}{self.done}/{self.total}  {_clock(elapsed)} elapsed  {rate}\n")
        self.stream.flush()


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02d}"
