"""The core of `sweep-uploads`: selects unfinished multipart uploads, and formats its output.

A killed process cannot abort its uploads. Their parts cost storage, and no listing of objects shows them. Expired
resumable uploads cost storage too; their own age counts, not that of their multipart uploads.
"""

import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from filehandoff.errors import BucketMissing
from filehandoff.keys import id_of, is_anyones_key
from filehandoff.settings import Settings

HELP = """List unfinished multipart uploads of this app, which killed processes left, and expired resumable uploads.

They cost storage, and no listing of objects shows the first. The command ignores uploads with keys of another form, or
of another prefix than UPLOAD_KEY_PREFIX, and resumable uploads younger than UPLOAD_RESUME_SECONDS. Without --abort it
changes nothing.
"""
DEFAULT_AGE = "24h"
OLDER_THAN_HELP = (
    "Minimum age, such as 90s, 30m, 24h or 7d. A running upload is unfinished too: choose more than your slowest "
    "upload takes."
)
ABORT_HELP = "Abort the uploads, so that S3 frees their storage."

#: Each unit in seconds, by its letter.
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_AGE = re.compile(r"(\d{1,9})\s*([smhd])", re.ASCII)


@dataclass(frozen=True, slots=True)
class Age:
    """A duration as the operator wrote it (`text`, for messages), and its value (`span`)."""

    text: str
    span: timedelta

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a whole number and its unit.

        Raises:
            ValueError: the text is no age; the message is one line.
        """
        match = _AGE.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"{text!r} is no age; write a whole number and its unit, such as 90s, 30m, 24h or 7d")
        return cls(match[1] + match[2], timedelta(seconds=int(match[1]) * _UNITS[match[2]]))


def show_age(span: timedelta) -> str:
    """Format a duration in its largest unit of which it has two, rounded down.

    A rounded age still selects the upload that it was shown for.
    """
    seconds = int(span.total_seconds())
    unit = next((unit for unit in "dhm" if seconds >= 2 * _UNITS[unit]), "s")
    return f"{seconds // _UNITS[unit]}{unit}"


#: Replaces a missing or invalid time, so that the upload has the age 0.
UNKNOWN = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A multipart upload that was neither completed nor aborted; `began` is in UTC."""

    key: str
    upload_id: str
    began: datetime

    @classmethod
    def from_s3(cls, entry: Mapping[str, Any]) -> Self:
        """Make an upload from an entry of boto's `list_multipart_uploads`."""
        return cls(entry["Key"], entry["UploadId"], (entry.get("Initiated") or UNKNOWN).astimezone(UTC))

    def age(self, now: datetime) -> timedelta:
        """Return the time since the upload began; 0 if S3's clock is ahead of ours."""
        return max(now - self.began, timedelta(0))


@dataclass(frozen=True, slots=True)
class Sweep:
    """One run of the command: the selected uploads, oldest first, and the younger ones' number."""

    settings: Settings
    older_than: Age
    now: datetime
    uploads: list[Unfinished]
    younger: int

    def line(self, upload: Unfinished) -> str:
        """Return the line for an upload: its begin, age, key and id."""
        return (
            f"{upload.began:%Y-%m-%d %H:%M:%S} UTC, {show_age(upload.age(self.now))} ago  "
            f"{upload.key}  {upload.upload_id}"
        )

    def aborted(self, upload: Unfinished) -> str:
        """Return the line for an aborted upload."""
        return f"aborted  {self.line(upload)}"

    def failed(self, upload: Unfinished, error: Exception) -> str:
        """Return the line for an upload whose abort failed, with the reason."""
        return f"not aborted  {self.line(upload)}: {reason(error)}"

    def summary(self, aborted: int | None) -> str:
        """Return the last line; `aborted` is the number of aborted uploads, or None without --abort."""
        count = len(self.uploads)
        below = f" under '{self.settings.key_prefix}'" if self.settings.key_prefix else ""
        found = (
            f"{count or 'No'} unfinished {_plural('upload', count)} of this app older than {self.older_than.text} "
            f"in the bucket '{self.settings.bucket}'{below}"
        )
        if self.younger:
            found += f"; {self.younger} younger {_plural('one', self.younger)} ignored"
        if not count:
            return f"{found}."
        if aborted is None:
            return f"{found}. Nothing was changed; run the command with --abort to abort the listed uploads."
        return f"{found}. {aborted} aborted" + (f", {count - aborted} failed." if aborted < count else ".")


def choose(
    settings: Settings,
    found: Iterable[Unfinished],
    older_than: Age,
    now: datetime,
    resumable: Container[str] = frozenset(),
) -> Sweep:
    """Select this app's uploads of at least this age from a bucket's unfinished uploads.

    `resumable` has the ids of resumable uploads that a client may continue; theirs are never selected.
    """
    ours = [
        upload
        for upload in found
        if is_anyones_key(settings.key_prefix, upload.key) and id_of(upload.key) not in resumable
    ]
    old = [upload for upload in ours if upload.age(now) >= older_than.span]
    old.sort(key=lambda upload: (upload.began, upload.key, upload.upload_id))
    return Sweep(settings, older_than, now, old, len(ours) - len(old))


def expired_line(folder: str, seconds: float) -> str:
    """Return the line for an expired resumable upload: the age of its last bytes, and its folder."""
    return f"expired resumable upload, {show_age(timedelta(seconds=seconds))} ago  {folder}"


def reason(error: Exception) -> str:
    """Return a failed call's reason in one line, if possible S3's or the network's message."""
    cause = error if isinstance(error, BucketMissing) else error.__cause__ or error
    return " ".join(str(cause).split())


def _plural(word: str, count: int) -> str:
    return f"{word}s" if count > 1 else word
