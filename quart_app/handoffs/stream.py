"""`stream`: the request's body goes straight into S3, part by part, while it is still arriving.

Choose it for files of any size, and first of all: nothing of the request is stored, so nothing of it can be closed.
Costs the parts in flight in memory, nothing on disk; a slow S3 slows the client down only with a bounded body, such as
`quart_app.request.Body` (pallets/quart#152). The trap: the form is not over when the first file is, so an upload must
be complete only when this has returned, and undone when it raises or is cancelled. The file does not exist as one:
`upload` gets its name and type, then its bytes as they come, and must take them all.
"""

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import aclosing

from filehandoff.form import Event, FileChunk, FileEnd, FileStart, FormParser


async def hand_off(
    body: AsyncIterable[bytes], parser: FormParser, upload: Callable[[FileStart, AsyncIterator[bytes]], Awaitable[None]]
) -> None:
    """Parse the body's chunks, and give each file in a field for files to `upload`, which puts it into S3."""
    async with aclosing(parse(body, parser)) as events:
        async for event in events:
            if isinstance(event, FileStart) and parser.limits.is_file_field(event.name):
                async with aclosing(chunks(events)) as file:
                    await upload(event, file)


async def parse(body: AsyncIterable[bytes], parser: FormParser) -> AsyncGenerator[Event]:
    """The form's events; raises the FormError that the client is to be told."""
    async for chunk in body:
        for event in parser.receive(chunk):
            yield event
    parser.finish()


async def chunks(events: AsyncIterator[Event]) -> AsyncGenerator[bytes]:
    """The bytes of the file that has begun."""
    async for event in events:
        match event:
            case FileChunk(data):
                yield data
            case FileEnd():
                return
