"""Faulty apps for the benchmark to detect; each takes the form field `file` at `/upload`."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import ClientSession
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

BUCKET = f"{os.environ['UPLOAD_S3_ENDPOINT_URL']}/{os.environ['UPLOAD_BUCKET']}"
#: Seconds that the slow app waits per file; far longer than an upload takes.
DELAY = 0.5


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """One client for the process; the null store needs no signature."""
    async with ClientSession() as app.state.http:
        yield


Change = Callable[[str, bytes], Awaitable[bytes | None]]


def peer(change: Change) -> Starlette:
    """An app that stores `change(name, bytes)` of a file, or nothing for None."""

    async def upload(request: Request) -> JSONResponse:
        async with request.form() as form:
            file = form["file"]
            assert isinstance(file, UploadFile)
            data = await change(file.filename or "", await file.read())
            if data is not None:
                async with request.app.state.http.put(f"{BUCKET}/{file.filename}", data=data) as answer:
                    answer.raise_for_status()
            return JSONResponse({"key": file.filename}, status_code=201)

    return Starlette(routes=[Route("/upload", upload, methods=["POST"])], lifespan=lifespan)


def is_third(name: str) -> bool:
    """Whether this is the third measured file."""
    return name == "closed-0000002.bin"


async def _right(_name: str, data: bytes) -> bytes | None:
    return data


async def _slow(_name: str, data: bytes) -> bytes | None:
    await asyncio.sleep(DELAY)
    return data


async def _drop(_name: str, data: bytes) -> bytes | None:
    return data[:-1]


async def _flip(_name: str, data: bytes) -> bytes | None:
    return data[:-1] + bytes([data[-1] ^ 1])


async def _lose(name: str, data: bytes) -> bytes | None:
    return None if is_third(name) else data


async def _die(name: str, data: bytes) -> bytes | None:
    if is_third(name):
        os._exit(3)
    return data


async def _fill(name: str, data: bytes) -> bytes | None:
    if is_third(name):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return data


right, slow, dropping, flipping = peer(_right), peer(_slow), peer(_drop), peer(_flip)
losing, mortal, full = peer(_lose), peer(_die), peer(_fill)
