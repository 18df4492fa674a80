"""What the apps are started with: small parts, and little patience."""

SETTINGS = {
    "UPLOAD_S3": "moto",
    "UPLOAD_BUCKET": "faults",
    "UPLOAD_PART_BYTES": "5 MiB",
    "UPLOAD_MAX_FILE_BYTES": "64 MiB",
    "UPLOAD_IDLE_TIMEOUT": "1",
    "UPLOAD_DRAIN_SECONDS": "2",
    "UPLOAD_S3_CONNECT_TIMEOUT": "0.5",
    "UPLOAD_S3_READ_TIMEOUT": "1",
    "UPLOAD_S3_ATTEMPTS": "2",
}
