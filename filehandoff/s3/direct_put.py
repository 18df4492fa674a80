"""A put to S3 without botocore: the request of a small file or a part, and the reading of its response.

botocore takes more CPU time for a small put than all the rest of an upload, and 2 ms for a part. So a shell sends a put
once by itself.
Anything but a plain success goes to botocore, which retries, follows regions and explains errors.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from random import random
from typing import IO, Any, Self
from urllib.parse import parse_qs, quote, urlsplit

from filehandoff.parts import PartReader
from filehandoff.s3 import options
from filehandoff.s3.calls import Answer
from filehandoff.s3.signing import ALGORITHM, Credentials, Signer

logger = logging.getLogger(__name__)

_OK = 200
#: Statuses by which S3 refuses a request, rather than fails.
_REFUSALS = range(300, 500)
#: Bytes of a part that is joined.
JOINED_BYTES = 64 * 1024
#: Refusals in a row that show that only botocore's puts are right here, and no single one was damaged on its way.
MOST_REFUSALS = 3
#: The key in the URL that shows the bucket's address.
SAMPLE_KEY = "key"
#: The query of a URL with signature version 4 for S3; other buckets need other requests.
_SIGNATURE = {f"X-Amz-{name}" for name in ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature")}
_PORTS = {"http": 80, "https": 443}
_MORE_HEADERS = {"ContentType": "content-type", "IfNoneMatch": "if-none-match"}
#: The calls of boto that this module can send, by the parameters that it knows.
PARAMETERS = {
    "put_object": {
        *("Bucket", "Key", "Body", "ContentType", "Metadata", "ChecksumCRC32", "IfNoneMatch"),
        *options.OPTIONS,
    },
    "upload_part": {
        *("Bucket", "Key", "Body", "UploadId", "PartNumber", "ContentLength", "ChecksumCRC32"),
        "ExpectedBucketOwner",
    },
}


def joined(body: IO[bytes] | PartReader, size: int) -> bytes | None:
    """Return the bytes of a small part, which are cheaper to send in one message; None for other bodies."""
    return b"".join(body.pieces()) if isinstance(body, PartReader) and size <= JOINED_BYTES else None


@dataclass(slots=True)
class DirectPuts:
    """The puts into one bucket; `MOST_REFUSALS` in a row end the direct ones.

    Attributes:
        origin: the scheme, host and port of the bucket's address.
        host: the value of `Host`, without the scheme's own port.
        path: the encoded path up to the key.
        signer: the signer for the bucket's region.
        agent: the value of `User-Agent`.
        refusals: the number of direct puts since the last success that S3 refused and then took from botocore.
    """

    origin: str
    host: str
    path: str
    signer: Signer
    agent: str
    refusals: int = 0

    @classmethod
    def at(cls, presigned_url: str, agent: str) -> Self | None:
        """Read the bucket's address, region and service from the presigned URL of `SAMPLE_KEY`.

        Return None for another signature than version 4.
        """
        url = urlsplit(presigned_url)
        values = {name: value[0] for name, value in parse_qs(url.query).items()}
        if values.keys() - {"X-Amz-Security-Token"} != _SIGNATURE or values["X-Amz-Algorithm"] != ALGORITHM:
            return None
        _, _, region, service, _ = values["X-Amz-Credential"].rsplit("/", 4)
        own_port = f":{_PORTS[url.scheme]}"
        return cls(
            origin=f"{url.scheme}://{url.netloc}",
            host=url.netloc.lower().removesuffix(own_port),
            path=url.path.removesuffix(SAMPLE_KEY),
            signer=Signer(region, service),
            agent=agent,
        )

    def request(
        self, operation: str, parameters: Mapping[str, Any], size: int, credentials: Credentials, time: datetime
    ) -> tuple[str, dict[str, str]] | None:
        """Return the URL and the headers of a put; None for parameters that only botocore can send.

        Args:
            operation: boto's name of the call.
            parameters: those of boto's call, as the hook has left them.
            size: the body's length in bytes.
            credentials: the keys to sign with.
            time: now, in UTC.
        """
        if parameters.keys() - PARAMETERS[operation]:
            return None
        query = ""
        if operation == "upload_part":
            query = f"partNumber={parameters['PartNumber']}&uploadId={quote(parameters['UploadId'], safe='')}"
        path = self.path + quote(parameters["Key"], safe="/~")
        headers = {
            "host": self.host,
            "x-amz-content-sha256": "UNSIGNED-PAYLOAD",
            "x-amz-checksum-crc32": parameters["ChecksumCRC32"],
            **{f"x-amz-meta-{name.lower()}": value for name, value in parameters.get("Metadata", {}).items()},
            **options.headers(parameters),
        }
        for name, header in _MORE_HEADERS.items():
            if name in parameters:
                headers[header] = parameters[name]
        signed = self.signer.sign("PUT", (path, query), headers, credentials, time)
        return f"{self.origin}{path}{query and '?'}{query}", {
            **signed,
            "content-length": str(size),
            "user-agent": self.agent,
        }

    @property
    def enabled(self) -> bool:
        """Whether direct puts work here."""
        return self.refusals < MOST_REFUSALS

    def answer(self, status: int, headers: Mapping[str, str]) -> Answer | None:
        """Return boto's form of a plain success, from the response's headers by lowercase names; otherwise None."""
        logger.debug("S3 responded %s to a direct put", status)
        if status != _OK or "etag" not in headers:
            return None
        self.refusals = 0
        checksum = headers.get("x-amz-checksum-crc32")
        return {"ETag": headers["etag"], **({"ChecksumCRC32": checksum} if checksum else {})}

    @staticmethod
    def pause(status: int | None) -> float:
        """Return the seconds before botocore sends a put again that S3 did not take: as in its own standard mode.

        Without a pause, a short outage of S3 would take two attempts (docs/faults.md, "connection refused", once).
        """
        return 0 if status in _REFUSALS else random()  # noqa: S311 - not for secrets

    def count_refusal(self, status: int | None) -> None:
        """Count a direct put to which S3 gave this status, before it took the put from botocore."""
        if status in _REFUSALS:
            self.refusals += 1
            if self.refusals == MOST_REFUSALS:
                logger.info("S3 responded %s to %s direct puts; botocore sends all from now on", status, self.refusals)
