"""The garbage collector passes over the objects of the start."""

import gc

from filehandoff.garbage import spare_the_start


def test_a_collection_looks_only_at_later_objects() -> None:
    """An object made before is not looked at, one made afterwards is."""
    early: list[object] = []
    spare_the_start()
    try:
        late: list[object] = []
        looked_at = [id(it) for it in gc.get_objects()]
        assert (id(early) in looked_at, id(late) in looked_at) == (False, True)
    finally:
        gc.unfreeze()
