"""`stream`: the request's body goes into S3 part by part, while it arrives.

Choose it first, for files of any size: the app stores no file of the request, so no code can close one.
Cost: the parts in flight in memory, and nothing on disk. A slow S3 slows the client down only with a bounded body, such
as `quart_app.request.Body` (pallets/quart#152).
Trap: the form goes on after its first file. Complete an upload only after `hand_off` has returned, and undo it if
`hand_off` raises or is cancelled.
`upload` gets the file's name and type, then the bytes as they arrive. It must read them all.
"""

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import aclosing

from filehandoff.form import Event, FileChunk, FileEnd, FileStart, FormParser


async def hand_off(
    body: AsyncIterable[bytes], parser: FormParser, upload: Callable[[FileStart, AsyncIterator[bytes]], Awaitable[None]]
) -> None:
    """Parse the body and pass each file of a file field to `upload`."""
    async with aclosing(parse(body, parser)) as events:
        async for event in events:
            if isinstance(event, FileStart) and parser.limits.is_file_field(event.name):
                async with aclosing(chunks(events)) as file:
                    await upload(event, file)


async def parse(body: AsyncIterable[bytes], parser: FormParser) -> AsyncGenerator[Event]:
    """Yield the form's events; raise FormError if the form cannot be accepted."""
    async for chunk in body:
        for event in parser.receive(chunk):
            yield event
    parser.finish()


async def chunks(events: AsyncIterator[Event]) -> AsyncGenerator[bytes]:
    """Yield the bytes of the file whose FileStart came last."""
    async for event in events:
        match event:
            case FileChunk(data):
                yield data
            case FileEnd():
                return
