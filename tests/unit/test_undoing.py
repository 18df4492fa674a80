"""For how long what could not be undone is tried again."""

from handoff.undoing import FIRST_PAUSE, GIVE_UP_AFTER, LONGEST_PAUSE, until


def test_what_is_to_be_undone_is_given_up_after_an_hour() -> None:
    """It is tried until then, and at least once a minute."""
    assert until(100.0) == 100.0 + GIVE_UP_AFTER
    assert FIRST_PAUSE < LONGEST_PAUSE < 60 < GIVE_UP_AFTER
