"""How hypothesis runs in this folder: the same examples each time, so that a red test is never luck.

`pytest tests/unit --hypothesis-profile=search` looks for new ones instead, for as long as its count takes.
"""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "unit",
    max_examples=100,
    derandomize=True,
    deadline=None,  # a slow machine is no bug
    suppress_health_check=[HealthCheck.too_slow],  # likewise
)
settings.register_profile(
    "search",
    parent=settings.get_profile("unit"),
    max_examples=5000,
    derandomize=False,
)
if settings.get_current_profile_name() in {"default", "ci"}:
    settings.load_profile("unit")
