"""The profiles of hypothesis: the default has fixed examples, so that no failure depends on chance.

`pytest tests/unit --hypothesis-profile=search` runs new, random examples instead, and more of them.
"""

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
