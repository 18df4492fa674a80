"""Other people's tus clients resume until their file is whole, and S3 has its bytes."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from resuming.programs import Program, each_client, each_variant, one_client, one_client_with_chunks, thorough
from resuming.services import FILE_BYTES, FRAMEWORKS, Resuming, Services, resuming

from demo.processes import Server, ending


@pytest.fixture(scope="module")
def servers(services: Services) -> dict[str, Server]:
    """One process of each app."""
    return {framework: services.start(framework) for framework in FRAMEWORKS}


@pytest.fixture
def behind(services: Services, servers: dict[str, Server], framework: str, tmp_path: Path) -> Iterator[Resuming]:
    """An app behind a proxy that cuts connections."""
    with resuming(services, [servers[framework]], tmp_path) as found:
        yield found


@each_client
def test_a_client_resumes_after_cuts(behind: Resuming, client: Program, rounds: int) -> None:
    """With connections that end at random bytes, each file is stored whole."""
    behind.send_until(client, rounds)


@pytest.mark.every_other
@each_variant
def test_a_variant_of_tus_js_client_resumes_after_cuts(behind: Resuming, client: Program, rounds: int) -> None:
    """Files in parallel, in small chunks, from the creation on, without a length and by POST are stored whole too."""
    behind.send_until(client, rounds)


@pytest.fixture(params=[pytest.param("two workers", marks=thorough), "two services"])
def several(request: pytest.FixtureRequest, services: Services, framework: str, tmp_path: Path) -> Iterator[Resuming]:
    """Two processes of an app on one address, and two services behind one proxy, which takes them in turn."""
    count = 2 if request.param == "two services" else 1
    options = [] if count == 2 else ["--workers", "2"]
    started = [services.start(framework, *options) for _ in range(count)]
    with ending(started), resuming(services, started, tmp_path) as found:
        yield found


@one_client
@pytest.mark.every_other
def test_a_client_resumes_at_another_process(several: Resuming, client: Program, rounds: int) -> None:
    """With two processes, of which any gets the next request, each file is stored whole."""
    several.send_until(client, rounds)


@pytest.mark.every_other
@one_client_with_chunks
def test_a_client_resumes_after_its_app_was_killed(
    services: Services, framework: str, client: Program, rounds: int, tmp_path: Path
) -> None:
    """With an app that is killed and started again, each file is stored whole."""
    running = [services.start(framework)]

    def restart() -> None:
        running[0] = services.restart(running[0], framework)
        clients.proxy.servers[:] = [running[0].url]

    # the kernel ends a server together with the thread that has started it, so one thread starts them all
    with ThreadPoolExecutor(1) as starter, resuming(services, running, tmp_path) as clients:
        clients.proxy.strike = lambda: starter.submit(restart).result()
        clients.send_until(client, max(1, rounds // 10), cut_every=FILE_BYTES)
        running[0].terminate()
        running[0].wait()
