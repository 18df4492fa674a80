"""The apps' settings: small parts, and timeouts that only a fault reaches.

A test of a timeout adds a short one.
"""

from patience import PATIENCE

SETTINGS = {
    "UPLOAD_S3": "moto",
    "UPLOAD_BUCKET": "faults",
    "UPLOAD_PART_BYTES": "5 MiB",
    "UPLOAD_MAX_FILE_BYTES": "16 MiB",
    "UPLOAD_IDLE_TIMEOUT": str(PATIENCE),
    "UPLOAD_DRAIN_SECONDS": "2",
    "UPLOAD_S3_CONNECT_TIMEOUT": str(PATIENCE),  # urllib3 applies it to sending on a new connection too
    "UPLOAD_S3_READ_TIMEOUT": str(PATIENCE),
    "UPLOAD_S3_ATTEMPTS": "2",
}

#: For a stalling store: seconds that a call to a healthy store never takes.
SHORT_STORE_TIMEOUTS = {"UPLOAD_S3_CONNECT_TIMEOUT": "4", "UPLOAD_S3_READ_TIMEOUT": "4"}
#: For a stalling client: seconds that a sending client never pauses.
IDLE_SECONDS = 3.0
SHORT_IDLE_TIMEOUT = {"UPLOAD_IDLE_TIMEOUT": str(IDLE_SECONDS)}
