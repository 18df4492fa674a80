"""Litestar's `UploadFile` passed to aioboto3's `upload_fileobj`.

Litestar, "Requests", "File uploads": a multipart body as `UploadFile`; aioboto3, "Usage": `upload_fileobj`.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import aioboto3
from litestar import Litestar, post
from litestar.datastructures import State, UploadFile
from litestar.enums import RequestEncodingType
from litestar.params import Body

BUCKET = os.environ["UPLOAD_BUCKET"]


@asynccontextmanager
async def lifespan(app: Litestar) -> AsyncIterator[None]:
    """One client for the whole process."""
    async with aioboto3.Session().client("s3", endpoint_url=os.environ["UPLOAD_S3_ENDPOINT_URL"]) as app.state.s3:
        yield


@post("/upload")
async def upload(
    data: Annotated[UploadFile, Body(media_type=RequestEncodingType.MULTI_PART)], state: State
) -> dict[str, str]:
    """Store a file under its name."""
    await state.s3.upload_fileobj(data.file, BUCKET, data.filename)
    return {"key": data.filename}


# the default limit of a body is 10 MB
app = Litestar([upload], lifespan=[lifespan], request_max_body_size=None)
