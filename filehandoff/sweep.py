"""Which unfinished multipart uploads to abort, and what to say of them: the core of the command `sweep-uploads`.

A process that is killed cannot undo what it began. The parts that S3 had taken by then cost storage, and show in no
listing of objects.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from filehandoff.errors import BucketMissing
from filehandoff.keys import is_key
from filehandoff.settings import Settings

HELP = """List what killed processes left in S3: unfinished multipart uploads of this app.

They cost storage, and show in no listing of objects. Those whose keys are none of this app's, or begin with another
prefix than UPLOAD_KEY_PREFIX, are never touched. Nothing is changed without --abort.
"""
DEFAULT_AGE = "24h"
OLDER_THAN_HELP = (
    "Leave younger ones alone; such as 90s, 30m, 24h or 7d. An upload that is still running is unfinished too and must "
    "not be swept: give more time than your slowest upload takes."
)
ABORT_HELP = "Abort them, so that S3 frees what they hold."

#: By its letter, each unit in seconds.
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_AGE = re.compile(r"(\d{1,9})\s*([smhd])", re.ASCII)


@dataclass(frozen=True, slots=True)
class Age:
    """A length of time as somebody wrote it: `text` is told again, `span` is counted with."""

    text: str
    span: timedelta

    @classmethod
    def parse(cls, text: str) -> Self:
        """An age from a whole number and its unit.

        Raises:
            ValueError: it is none; one line.
        """
        match = _AGE.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"{text!r} is no age; give a whole number and its unit, such as 90s, 30m, 24h or 7d")
        return cls(match[1] + match[2], timedelta(seconds=int(match[1]) * _UNITS[match[2]]))


def show_age(span: timedelta) -> str:
    """A length of time in its largest unit that counts at least two, rounded down: what is shown is never too old."""
    seconds = int(span.total_seconds())
    unit = next((unit for unit in "dhm" if seconds >= 2 * _UNITS[unit]), "s")
    return f"{seconds // _UNITS[unit]}{unit}"


#: Stands for a time that cannot be read: it makes an upload too young to be swept.
UNKNOWN = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A multipart upload that was neither completed nor aborted; it began in UTC."""

    key: str
    upload_id: str
    began: datetime

    @classmethod
    def from_s3(cls, entry: Mapping[str, Any]) -> Self:
        """One of what boto's `list_multipart_uploads` answered."""
        return cls(entry["Key"], entry["UploadId"], (entry.get("Initiated") or UNKNOWN).astimezone(UTC))

    def age(self, now: datetime) -> timedelta:
        """How long ago it began; none at all where S3's clock is ahead of ours."""
        return max(now - self.began, timedelta(0))


@dataclass(frozen=True, slots=True)
class Sweep:
    """One run of the command: which uploads it is for, the oldest first, and how many are too young."""

    settings: Settings
    older_than: Age
    now: datetime
    uploads: list[Unfinished]
    younger: int

    def line(self, upload: Unfinished) -> str:
        """An upload: since when, how old, its key and its id."""
        return (
            f"{upload.began:%Y-%m-%d %H:%M:%S} UTC, {show_age(upload.age(self.now))} ago  "
            f"{upload.key}  {upload.upload_id}"
        )

    def aborted(self, upload: Unfinished) -> str:
        """An upload that is no more."""
        return f"aborted  {self.line(upload)}"

    def failed(self, upload: Unfinished, error: Exception) -> str:
        """An upload that could not be aborted, and why."""
        return f"not aborted  {self.line(upload)}: {reason(error)}"

    def summary(self, aborted: int | None) -> str:
        """The last line, for whoever reads no other; `aborted` says how many were, None if none was to be."""
        count = len(self.uploads)
        below = f" under '{self.settings.key_prefix}'" if self.settings.key_prefix else ""
        found = (
            f"{count or 'No'} unfinished {_plural('upload', count)} of this app older than {self.older_than.text} "
            f"in the bucket '{self.settings.bucket}'{below}"
        )
        if self.younger:
            found += f"; {self.younger} younger {_plural('one', self.younger)} left alone"
        if not count:
            return f"{found}."
        if aborted is None:
            return f"{found}. Nothing was changed: run this again with --abort to abort what is listed."
        return f"{found}. {aborted} aborted" + (f", {count - aborted} could not be." if aborted < count else ".")


def choose(settings: Settings, found: Iterable[Unfinished], older_than: Age, now: datetime) -> Sweep:
    """Of the unfinished uploads of a bucket, those that are ours and have this age."""
    ours = [upload for upload in found if is_key(settings.key_prefix, upload.key)]
    old = [upload for upload in ours if upload.age(now) >= older_than.span]
    old.sort(key=lambda upload: (upload.began, upload.key, upload.upload_id))
    return Sweep(settings, older_than, now, old, len(ours) - len(old))


def reason(error: Exception) -> str:
    """Why a call to S3 failed, in one line: S3's or the network's own words, where there are some."""
    cause = error if isinstance(error, BucketMissing) else error.__cause__ or error
    return " ".join(str(cause).split())


def _plural(word: str, count: int) -> str:
    return f"{word}s" if count > 1 else word
