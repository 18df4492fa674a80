"""The limit of file descriptors that a process requests, and the connections that it allows."""

import resource
import sys

import pytest

from filehandoff.admission import threads
from filehandoff.descriptors import ENOUGH, KEPT, connections, raise_limit
from filehandoff.settings import Settings

UNLIMITED = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("before", "asked", "told"),
    [
        pytest.param((1024, 20_000), (20_000, 20_000), 20_000, id="all that the system allows"),
        pytest.param((1024, 10**6), (ENOUGH, 10**6), ENOUGH, id="no more than is of use"),
        pytest.param((1024, UNLIMITED), (ENOUGH, UNLIMITED), ENOUGH, id="a system without a limit"),
        pytest.param((1024, 1024), None, 1024, id="there are no more"),
        pytest.param((10**6, 10**6), None, 10**6, id="there are more already"),
        pytest.param((UNLIMITED, UNLIMITED), None, ENOUGH, id="there is no limit already"),
    ],
)
def test_a_process_requests_the_allowed_descriptors(
    monkeypatch: pytest.MonkeyPatch, before: tuple[int, int], asked: tuple[int, int] | None, told: int
) -> None:
    """The limit is raised, never lowered, and the new limit is returned."""
    calls: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: before)
    monkeypatch.setattr(resource, "setrlimit", lambda _kind, limits: calls.append(limits))
    assert raise_limit() == told
    assert calls == ([asked] if asked else [])


def test_a_system_that_refuses_leaves_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Mac reports no limit, and rejects such a number."""

    def refuse(_kind: int, _limits: tuple[int, int]) -> None:
        raise ValueError

    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (256, UNLIMITED))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert raise_limit() == 256


def test_a_system_without_such_limits_has_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows lacks the module for limits."""
    monkeypatch.setitem(sys.modules, "resource", None)
    assert raise_limit() == ENOUGH


def test_there_are_connections_for_all_threads_and_a_thousand_more() -> None:
    """With many descriptors; 3,000 are many by the defaults."""
    settings = Settings()
    assert connections(3000, settings) == threads(settings.max_concurrent) + KEPT


@pytest.mark.parametrize("limit", [1024, 2048, 3000])
def test_connections_leave_descriptors_for_everything_else(limit: int) -> None:
    """The descriptors of uploads, downloads and drained connections always fit beside the client connections."""
    settings = Settings()
    accepted = connections(limit, settings)
    needed = settings.max_concurrent * (settings.parts_in_flight + 2) + 2 * settings.max_concurrent
    assert accepted + accepted // 2 + needed < limit


def test_there_is_always_a_connection_for_each_thread() -> None:
    """Each thread has a connection, even if that exceeds the limit of descriptors."""
    settings = Settings()
    assert connections(64, settings) == threads(settings.max_concurrent) + 1
