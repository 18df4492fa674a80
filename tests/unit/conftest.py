"""The event loops of the async tests, and the profiles of hypothesis.

The default profile has fixed examples, so that no failure depends on chance.
`pytest tests/unit --hypothesis-profile=search` runs new, random examples instead, and more of them.
"""

import asyncio
from collections.abc import Callable, Mapping

import uvloop
from hypothesis import HealthCheck, settings

settings.register_profile(
    "unit",
    max_examples=100,
    derandomize=True,
    deadline=None,  # a slow machine is no bug
    suppress_health_check=[HealthCheck.too_slow],  # a slow machine is no bug
)
settings.register_profile(
    "search",
    parent=settings.get_profile("unit"),
    max_examples=5000,
    derandomize=False,
)
if settings.get_current_profile_name() in {"default", "ci"}:
    settings.load_profile("unit")


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run each async test on both event loops of the Quart app: its servers use uvloop if it is installed."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
