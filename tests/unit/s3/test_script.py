"""The driver of the flows' tests fails if a flow and its script differ."""

import pytest
from unit.s3.script import Line, expect, play

from filehandoff.s3 import calls
from filehandoff.s3.calls import Flow

SCRIPT = expect("delete_object", Key="a"), expect("delete_object", Key="b")


def flow(*keys: str) -> Flow[str]:
    """Delete these objects, and suppress each error."""
    for key in keys:
        try:
            yield from calls.delete_object(key)
        except BaseException:  # noqa: BLE001, S112 - a flow that suppresses the driver's failure
            continue
    return "done"


def test_a_flow_that_follows_its_script_returns_its_result() -> None:
    """`play` returns the flow's result."""
    assert play(flow("a", "b"), *SCRIPT) == "done"


@pytest.mark.parametrize(
    ("keys", "script"),
    [
        pytest.param("ab", SCRIPT[:1], id="an extra call"),
        pytest.param("a", SCRIPT, id="a missing call"),
        pytest.param("ac", SCRIPT, id="another parameter"),
        pytest.param("a", [expect("head_object", Key="a")], id="another operation"),
        pytest.param("a", [expect("delete_object", client="downloads", Key="a")], id="another client"),
        pytest.param("a", [expect("delete_object", finished=True, Key="a")], id="not protected"),
    ],
)
def test_a_flow_that_differs_from_its_script_fails(keys: str, script: list[Line]) -> None:
    """The test fails even if the flow catches every error."""
    with pytest.raises(pytest.fail.Exception):
        play(flow(*keys), *script)
