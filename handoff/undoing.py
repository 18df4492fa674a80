"""How long, and how often, what could not be undone in S3 at once is tried again: in both apps alike."""

#: Between two tries, in seconds: at first, and at most; it doubles while nothing comes of it.
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0
#: How many uploads may wait to be undone; of more, the oldest are given up.
MOST = 10_000
#: How long a store may be away, in seconds, and still be rid of what it has of us; then it is for `sweep-uploads`.
GIVE_UP_AFTER = 3600.0


def until(now: float) -> float:
    """When what is to be undone from now on is given up, by the same clock."""
    return now + GIVE_UP_AFTER
