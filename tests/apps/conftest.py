"""One browser for the tests of a module that look at the app through it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from browsing import started_chromium


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with started_chromium() as browser:
        yield browser
