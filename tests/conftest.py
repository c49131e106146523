"""Settings of the whole suite: property tests draw the same examples every time, and few enough to stay quick."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "osml",
    derandomize=True,
    max_examples=50,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("osml")
