"""The service that the flows work for."""

import pytest

from filehandoff.service import Service
from filehandoff.settings import Settings


@pytest.fixture
def service() -> Service:
    """A service without a shell: nothing drives its cleanup."""
    return Service("flask", Settings(bucket="photos", promise_secret="a secret of sixteen and more"))
