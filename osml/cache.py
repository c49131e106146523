"""Results kept by the content that they were computed from: atomic, shared by processes, checked when read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from osml.files import atomic_write


def default_folder() -> Path:
    """`$OSML_CACHE`, or `osml` in the user's cache folder."""
    if named := os.environ.get("OSML_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "osml"


def content_key(parts: Iterable[str]) -> str:
    """A key from texts (hashes of files, settings, versions); their order and borders count.

    >>> content_key(["a", "b"]) == content_key(["ab"])
    False
    """
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8")
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.hexdigest()


class Cache:
    """Files of bytes in a folder, named `key.digest-of-content.suffix`, so that damage is seen without an index."""

    def __init__(self, folder: Path, suffix: str) -> None:
        self.folder, self.suffix = folder, suffix

    def load(self, key: str) -> bytes | None:
        """The content, or None. A damaged file is removed and counts as absent."""
        for path in sorted(self._place(key).glob(f"{key}.*{self.suffix}")):
            try:
                data = path.read_bytes()
            except FileNotFoundError:  # another process found it damaged first
                continue
            if path.name == self._name(key, data):
                return data
            path.unlink(missing_ok=True)
        return None

    def store(self, key: str, data: bytes) -> Path:
        """Keep `data` under `key`; readers see all of it or nothing."""
        path = self._place(key) / self._name(key, data)
        atomic_write(path, data)
        return path

    def _place(self, key: str) -> Path:
        return self.folder / key[:2]

    def _name(self, key: str, data: bytes) -> str:
        return f"{key}.{hashlib.sha256(data).hexdigest()[:16]}{self.suffix}"
