"""The driver of the flows' tests fails where a flow and its script differ."""

import pytest
from unit.s3.script import Line, expect, play

from filehandoff.s3 import calls
from filehandoff.s3.calls import Flow

SCRIPT = expect("delete_object", Key="a"), expect("delete_object", Key="b")


def flow(*keys: str) -> Flow[str]:
    """Delete these objects, and hide each error."""
    for key in keys:
        try:
            yield from calls.delete_object(key)
        except BaseException:  # noqa: BLE001, S112 - the flow that the driver must see through
            continue
    return "done"


def test_a_flow_that_keeps_to_its_script_gives_its_result() -> None:
    """The result of the flow is that of `play`."""
    assert play(flow("a", "b"), *SCRIPT) == "done"


@pytest.mark.parametrize(
    ("keys", "script"),
    [
        pytest.param("ab", SCRIPT[:1], id="a call too many"),
        pytest.param("a", SCRIPT, id="a call too few"),
        pytest.param("ac", SCRIPT, id="another parameter"),
        pytest.param("a", [expect("head_object", Key="a")], id="another operation"),
        pytest.param("a", [expect("delete_object", client="downloads", Key="a")], id="another client"),
        pytest.param("a", [expect("delete_object", finished=True, Key="a")], id="not protected"),
    ],
)
def test_a_flow_that_differs_from_its_script_fails(keys: str, script: list[Line]) -> None:
    """No flow can hide a difference, even one that catches every error."""
    with pytest.raises(pytest.fail.Exception):
        play(flow(*keys), *script)
