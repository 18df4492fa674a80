"""A script's faults strike the intended calls."""

from typing import Any

import pytest
from faults.proxy import Proxy
from faults.script import (
    ANY,
    Call,
    Fault,
    FlipRequestByte,
    Reset,
    Script,
    Stall,
)
from faults.tools.talk import canned, connect, receive


def faults_of(script: Script, *calls: Call) -> list[Fault | None]:
    """The faults of these calls, in order."""
    return [script.fault_for(call) for call in calls]


PUT, HEAD = Call("put_object", "/b/k", None), Call("head_object", "/b/k", None)


@pytest.mark.parametrize(
    ("line", "struck"),
    [
        pytest.param({}, [1], id="the first"),
        pytest.param({"nth": 2}, [2], id="the second"),
        pytest.param({"every": True}, [1, 2, 3, 4], id="every one"),
        pytest.param({"nth": 3, "every": True}, [3, 4], id="every one from the third on"),
    ],
)
def test_a_fault_befalls_the_calls_it_is_for(line: dict[str, Any], struck: list[int]) -> None:
    """Calls are counted by operation from the moment the fault is scripted."""
    script = Script()
    faults_of(script, PUT)
    script.on("put_object", Reset(), **line)
    assert faults_of(script, PUT, HEAD, PUT, PUT, PUT)[1] is None
    script.clear()
    script.on("put_object", Reset(), **line)
    assert [number for number, fault in enumerate(faults_of(script, *[PUT] * 4), 1) if fault] == struck


def test_the_fault_that_was_scripted_first_happens() -> None:
    """A call has one fault, the first scripted one; each rule counts separately."""
    script = Script()
    script.on("put_object", Reset())
    script.on(ANY, Stall(), nth=2)
    assert faults_of(script, PUT, HEAD, PUT) == [Reset(), Stall(), None]


def test_a_fault_can_be_for_one_object() -> None:
    """A fault for one key strikes no other, in any order of calls."""
    script = Script()
    other = Call("put_object", "/b/other", None)
    script.on("put_object", Reset(), nth=2, key_end="/k")
    assert faults_of(script, PUT, other, other, PUT, PUT) == [None, None, None, Reset(), None]


def test_a_fault_that_cannot_happen_is_an_error() -> None:
    """An impossible fault is an error, because it would test nothing."""
    with pytest.raises(ValueError, match="put_objects"):
        Script().on("put_objects", Reset())
    with canned(b"HTTP/1.1 204 No Content\r\n\r\n") as (url, _):
        proxy = Proxy(url)
        proxy.on("put_object", FlipRequestByte(3))
        with connect(proxy) as connection:
            connection.sendall(b"PUT /b/k HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc")
            with pytest.raises(ConnectionResetError):
                receive(connection, 1)
        with pytest.raises(ExceptionGroup) as raised:
            proxy.close()
    assert raised.group_contains(ValueError, match="3 bytes")
