"""Puts of small files and parts without botocore, on the connections of a boto3 client.

`filehandoff.s3.direct_put` makes the requests.
"""

import io
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self, cast

from botocore.awsrequest import AWSPreparedRequest
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError

from filehandoff.metrics import Metrics
from filehandoff.s3.calls import Answer
from filehandoff.s3.direct_put import PARAMETERS, SAMPLE_KEY, DirectPuts, joined

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


class DirectPut:
    """A replacement of a client's `put_object` and `upload_part`; safe to use from many threads.

    Args:
        client: the client with the hooks and the connections.
        again: a client without hooks and with one attempt less, for all but a plain success.
        puts: the bucket's address and signer.
        credentials: the keys to sign with.
        metrics: count each put that is sent again.
    """

    def __init__(
        self, client: "S3Client", again: "S3Client", puts: DirectPuts, credentials: Credentials, metrics: Metrics
    ) -> None:
        self._client = client
        self._again = again
        self._puts = puts
        self._credentials = credentials
        self._metrics = metrics
        names = client.meta.method_to_api_mapping
        self._models = {it: client.meta.service_model.operation_model(names[it]) for it in PARAMETERS}
        self._session = client._endpoint.http_session  # type: ignore[attr-defined] # noqa: SLF001 - botocore has no public access to it

    @classmethod
    def of(
        cls, client: "S3Client", again: "S3Client", bucket: str, credentials: Credentials, metrics: Metrics
    ) -> Self | None:
        """Return a replacement for one bucket; None if its requests need another signature than version 4."""
        sample = {"Bucket": bucket, "Key": SAMPLE_KEY}
        url = client.generate_presigned_url("put_object", Params=sample)
        puts = DirectPuts.at(url, client.meta.config.user_agent)  # type: ignore[attr-defined] # the stubs lack botocore's options
        return cls(client, again, puts, credentials, metrics) if puts else None

    def __call__(self, operation: str, **parameters: Any) -> Answer:
        """Run the hooks, put the file or part, and return boto's response."""
        if not self._puts.enabled:
            return cast("Answer", getattr(self._client, operation)(**parameters))
        body = parameters["Body"]
        model = self._models[operation]
        event = f"before-parameter-build.s3.{model.name}"
        self._client.meta.events.emit(event, params=parameters, model=model, context={})
        status, answer = self._send(operation, parameters, body)
        if answer is None:
            answer = cast("Answer", getattr(self._again, operation)(**parameters))
            self._puts.count_refusal(status)
        return answer

    def _send(self, operation: str, parameters: dict[str, Any], body: Any) -> tuple[int | None, Answer | None]:
        """Send the put once; return S3's status, if any, and the response to a plain success."""
        size = body.seek(0, io.SEEK_END)
        body.seek(0)
        credentials = self._credentials.get_frozen_credentials()
        request: Any = self._puts.request(operation, parameters, size, credentials, datetime.now(UTC))
        if request is None or parameters["Body"] is not body:
            return None, None
        url, headers = request
        status, answer = None, None
        with suppress(BotoCoreError):
            data = joined(body, size)
            sent = AWSPreparedRequest("PUT", url, headers, body if data is None else data, stream_output=False)
            response = self._session.send(sent)
            status, answer = response.status_code, self._puts.answer(response.status_code, response.headers)
        if answer is None:
            self._metrics.count_repeat(self._models[operation].name)
            body.seek(0)
            time.sleep(self._puts.pause(status))
        return status, answer
