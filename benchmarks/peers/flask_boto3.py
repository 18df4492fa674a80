"""Flask's own file passed to boto3's `upload_fileobj`.

Flask, "Uploading Files"; boto3, "Uploading files": `upload_fileobj`.
"""

import os

import boto3
from flask import Flask, request

BUCKET = os.environ["UPLOAD_BUCKET"]

app = Flask(__name__)
s3 = boto3.client("s3", endpoint_url=os.environ["UPLOAD_S3_ENDPOINT_URL"])


@app.post("/upload")
def upload() -> tuple[dict[str, str | None], int]:
    """Store a file under its name."""
    file = request.files["file"]
    s3.upload_fileobj(file, BUCKET, file.filename)  # type: ignore[arg-type] # None for a form without a file
    return {"key": file.filename}, 201
