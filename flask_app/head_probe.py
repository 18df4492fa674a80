"""A signed HEAD for one object, at a third of botocore's CPU time.

Each upload ends with one. It uses the client's connection pool; on any failure the caller falls back to `head_object`.
"""

import logging
from typing import TYPE_CHECKING, Self
from urllib.parse import quote

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError
from botocore.httpsession import URLLib3Session

from filehandoff.verify import quoted_etag

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

logger = logging.getLogger(__name__)

_FOUND = 200
#: Statuses that the next object would get, too: another region, another kind of signature, no permission.
_REFUSALS = range(300, 404)


class Probe:
    """HEAD requests for the objects of one bucket; safe to use from many threads."""

    def __init__(self, session: URLLib3Session, bucket_url: str, region: str, credentials: Credentials | None) -> None:
        self._session = session
        self._bucket_url = bucket_url
        self._region = region
        self._credentials = credentials

    @classmethod
    def of(cls, client: "S3Client", bucket: str, credentials: Credentials | None) -> Self:
        """Make a probe with this client's address, proxies, certificates and timeouts."""
        session = client._endpoint.http_session  # type: ignore[attr-defined] # noqa: SLF001 - botocore has no public access to it
        url = "key"
        if credentials is not None:
            url = client.generate_presigned_url("head_object", Params={"Bucket": bucket, "Key": "key"})
        return cls(session, url.partition("?")[0].removesuffix("key"), client.meta.region_name, credentials)

    def __call__(self, key: str) -> tuple[int, str] | None:
        """Return an object's size in bytes and quoted ETag; None without a full answer."""
        if self._credentials is None:
            return None
        request = AWSRequest("HEAD", self._bucket_url + quote(key))
        credentials = self._credentials.get_frozen_credentials()
        S3SigV4Auth(credentials, "s3", self._region).add_auth(request)
        try:
            answer = self._session.send(request.prepare())
        except BotoCoreError:
            return None
        if answer.status_code in _REFUSALS:
            logger.info("S3 responded %s to a signed HEAD; head_object replaces it from now on", answer.status_code)
            self._credentials = None
        length, etag = answer.headers.get("Content-Length", ""), answer.headers.get("ETag")
        if answer.status_code != _FOUND or not length.isdecimal() or not etag:
            return None
        return int(length), quoted_etag({"ETag": etag})
