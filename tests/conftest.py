"""For all tests: what is asserted in the contract's own modules is explained like in a test."""

import pytest

pytest.register_assert_rewrite("contract.api", "contract.bucket")
