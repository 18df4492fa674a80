"""A service for the tests of flows."""

import pytest

from filehandoff.service import Service
from filehandoff.settings import Settings


@pytest.fixture
def service() -> Service:
    """Make a service without a shell, so nothing drives its cleanup."""
    return Service("flask", Settings(bucket="photos", promise_secret="a secret of sixteen and more"))
