"""`stream`: the request's body goes straight into S3, part by part, while it is still arriving.

Choose it for files of any size, and first of all: nothing of the request is stored, so nothing of it can be closed.
Costs the parts in flight in memory, nothing on disk; a slow S3 slows the client down by itself. The trap: the form is
not over when the first file is, so an upload must be complete only when this has returned, and undone when it raises.
The file does not exist as one: `upload` gets its name and type, then its bytes as they come, and must take them all.
"""

from collections.abc import Callable, Iterable, Iterator

from filehandoff.form import Event, FileChunk, FileEnd, FileStart, FormParser


def hand_off(body: Iterable[bytes], parser: FormParser, upload: Callable[[FileStart, Iterator[bytes]], None]) -> None:
    """Parse the body's chunks, and give each file in a field for files to `upload`, which puts it into S3."""
    events = parse(body, parser)
    for event in events:
        if isinstance(event, FileStart) and parser.limits.is_file_field(event.name):
            upload(event, chunks(events))


def parse(body: Iterable[bytes], parser: FormParser) -> Iterator[Event]:
    """The form's events; raises the FormError that the client is to be told."""
    for chunk in body:
        yield from parser.receive(chunk)
    parser.finish()


def chunks(events: Iterator[Event]) -> Iterator[bytes]:
    """The bytes of the file that has begun."""
    for event in events:
        match event:
            case FileChunk(data):
                yield data
            case FileEnd():
                return
