"""How long undoing may take, and how often what could not be undone at once is tried again: in both apps alike."""

#: How long undoing one form may keep its client waiting, in seconds, whatever S3 does.
UNDO_SECONDS = 9.0
#: At the process's end, in seconds: how long clients have to read what they are told of that, and how long what waits
#: for S3 to be back is then tried once more, so many at a time.
ANSWER_SECONDS = 1.0
LAST_TRY_SECONDS = 4.0
LAST_TRY_AT_ONCE = 8
#: So long a process takes at most, in seconds, to end after UPLOAD_DRAIN_SECONDS: all of these, and one more because
#: gunicorn looks once a second whether it is time.
END_SECONDS = UNDO_SECONDS + ANSWER_SECONDS + LAST_TRY_SECONDS + 1.0

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
