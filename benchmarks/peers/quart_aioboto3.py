"""Quart's own file passed to aioboto3's `upload_fileobj`.

Quart, "File uploads" and "Startup and shutdown"; aioboto3, "Usage": `upload_fileobj`.
"""

import os
from collections.abc import AsyncGenerator

import aioboto3
from quart import Quart, request

BUCKET = os.environ["UPLOAD_BUCKET"]

app = Quart(__name__)
app.config["MAX_CONTENT_LENGTH"] = None  # the default is 16 MB


@app.while_serving
async def connect() -> AsyncGenerator[None]:
    """One client for the whole process."""
    async with aioboto3.Session().client("s3", endpoint_url=os.environ["UPLOAD_S3_ENDPOINT_URL"]) as s3:
        app.extensions["s3"] = s3
        yield


@app.post("/upload")
async def upload() -> tuple[dict[str, str | None], int]:
    """Store a file under its name."""
    file = (await request.files)["file"]
    await app.extensions["s3"].upload_fileobj(file, BUCKET, file.filename)
    return {"key": file.filename}, 201
