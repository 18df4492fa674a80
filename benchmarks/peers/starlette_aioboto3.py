"""Starlette's form passed to aioboto3's `upload_fileobj`.

Starlette, "Requests", "Request Files"; aioboto3, "Usage": `upload_fileobj`.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aioboto3
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

BUCKET = os.environ["UPLOAD_BUCKET"]


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """One client for the whole process."""
    async with aioboto3.Session().client("s3", endpoint_url=os.environ["UPLOAD_S3_ENDPOINT_URL"]) as app.state.s3:
        yield


async def upload(request: Request) -> JSONResponse:
    """Store a file under its name."""
    async with request.form() as form:
        file = form["file"]
        assert isinstance(file, UploadFile)
        await request.app.state.s3.upload_fileobj(file.file, BUCKET, file.filename)
        return JSONResponse({"key": file.filename}, status_code=201)


app = Starlette(routes=[Route("/upload", upload, methods=["POST"])], lifespan=lifespan)
