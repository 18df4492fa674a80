"""FastAPI's `UploadFile` passed to aioboto3's `upload_fileobj`.

FastAPI, "Request Files": `file.file` is the file to pass to libraries that expect one; aioboto3, "Usage":
`upload_fileobj`.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aioboto3
from fastapi import FastAPI, Request, UploadFile

BUCKET = os.environ["UPLOAD_BUCKET"]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One client for the whole process."""
    async with aioboto3.Session().client("s3", endpoint_url=os.environ["UPLOAD_S3_ENDPOINT_URL"]) as app.state.s3:
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/upload", status_code=201)
async def upload(request: Request, file: UploadFile) -> dict[str, str | None]:
    """Store a file under its name."""
    await request.app.state.s3.upload_fileobj(file.file, BUCKET, file.filename)
    return {"key": file.filename}
