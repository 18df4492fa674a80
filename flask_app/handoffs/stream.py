"""`stream`: the request's body goes into S3 part by part, while it arrives.

Choose it first, for files of any size: the app stores no file of the request, so no code can close one.
Cost: the parts in flight in memory, and nothing on disk. A slow S3 slows the client down.
Trap: the form goes on after its first file. Complete an upload only after `hand_off` has returned, and undo it if
`hand_off` raises.
`upload` gets the file's name and type, then the bytes as they arrive. It must read them all.
"""

from collections.abc import Callable, Iterable, Iterator

from filehandoff.form import Event, FileChunk, FileEnd, FileStart, FormParser


def hand_off(body: Iterable[bytes], parser: FormParser, upload: Callable[[FileStart, Iterator[bytes]], None]) -> None:
    """Parse the body and pass each file of a file field to `upload`."""
    events = parse(body, parser)
    for event in events:
        if isinstance(event, FileStart) and parser.limits.is_file_field(event.name):
            upload(event, chunks(events))


def parse(body: Iterable[bytes], parser: FormParser) -> Iterator[Event]:
    """Yield the form's events; raise FormError if the form cannot be accepted."""
    for chunk in body:
        yield from parser.receive(chunk)
    parser.finish()


def chunks(events: Iterator[Event]) -> Iterator[bytes]:
    """Yield the bytes of the file whose FileStart came last."""
    for event in events:
        match event:
            case FileChunk(data):
                yield data
            case FileEnd():
                return
