"""Puts of small files and parts without botocore, on the connections of an aioboto3 client.

`filehandoff.s3.direct_put` makes the requests.
"""

import asyncio
import io
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self, cast

import aiohttp
from aiobotocore.credentials import AioCredentials
from yarl import URL

from filehandoff.metrics import Metrics
from filehandoff.s3.calls import Answer
from filehandoff.s3.direct_put import PARAMETERS, SAMPLE_KEY, DirectPuts, joined

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client


class DirectPut:
    """A replacement of a client's `put_object` and `upload_part`; safe to use from many tasks.

    Args:
        client: the client with the hooks and the connections.
        again: a client without hooks and with one attempt less, for all but a plain success.
        puts: the bucket's address and signer.
        credentials: the keys to sign with.
        metrics: count each put that is sent again.
    """

    def __init__(
        self, client: "S3Client", again: "S3Client", puts: DirectPuts, credentials: AioCredentials, metrics: Metrics
    ) -> None:
        self._client = client
        self._again = again
        self._puts = puts
        self._credentials = credentials
        self._metrics = metrics
        names = client.meta.method_to_api_mapping
        self._models = {it: client.meta.service_model.operation_model(names[it]) for it in PARAMETERS}
        config: Any = client.meta.config
        self._seconds = config.connect_timeout + config.read_timeout
        self._session = client._endpoint.http_session  # type: ignore[attr-defined] # noqa: SLF001 - aiobotocore has no public access to it
        self._proxy = self._session._proxy_config.proxy_url_for(puts.origin)  # noqa: SLF001 - private too
        self._proxy_headers = self._session._proxy_config.proxy_headers_for(puts.origin)  # noqa: SLF001 - private too

    @classmethod
    async def of(
        cls, client: "S3Client", again: "S3Client", bucket: str, credentials: AioCredentials, metrics: Metrics
    ) -> Self | None:
        """Return a replacement for one bucket; None if its requests need another signature than version 4."""
        sample = {"Bucket": bucket, "Key": SAMPLE_KEY}
        url = await client.generate_presigned_url("put_object", Params=sample)
        puts = DirectPuts.at(url, client.meta.config.user_agent)  # type: ignore[attr-defined] # the stubs lack botocore's options
        return cls(client, again, puts, credentials, metrics) if puts else None

    async def __call__(self, operation: str, **parameters: Any) -> Answer:
        """Run the hooks, put the file or part, and return boto's response."""
        if not self._puts.enabled:
            return cast("Answer", await getattr(self._client, operation)(**parameters))
        body = parameters["Body"]
        model = self._models[operation]
        event = f"before-parameter-build.s3.{model.name}"
        await self._client.meta.events.emit(event, params=parameters, model=model, context={})
        status, answer = await self._send(operation, parameters, body)
        if answer is None:
            answer = cast("Answer", await getattr(self._again, operation)(**parameters))
            self._puts.count_refusal(status)
        return answer

    async def _send(self, operation: str, parameters: dict[str, Any], body: Any) -> tuple[int | None, Answer | None]:
        """Send the put once; return S3's status, if any, and the response to a plain success."""
        size = body.seek(0, io.SEEK_END)
        body.seek(0)
        credentials = await self._credentials.get_frozen_credentials()
        request = self._puts.request(operation, parameters, size, credentials, datetime.now(UTC))
        if request is None or parameters["Body"] is not body:
            return None, None
        url, headers = request
        status, answer = None, None
        with suppress(aiohttp.ClientError, OSError):
            data = joined(body, size)
            # A body of several messages has a timeout for each.
            async with asyncio.timeout(None if data is None else self._seconds):
                status, answer = await self._exchange(url, headers, body if data is None else data)
        if answer is None:
            self._metrics.count_repeat(self._models[operation].name)
            body.seek(0)
            await asyncio.sleep(self._puts.pause(status))
        return status, answer

    async def _exchange(self, url: str, headers: dict[str, str], body: Any) -> tuple[int, Answer | None]:
        connections = await self._session._get_session(self._proxy)  # noqa: SLF001 - private too
        proxy = {"proxy": self._proxy, "proxy_headers": self._proxy_headers}
        async with connections.put(URL(url, encoded=True), headers=headers, data=body, **proxy) as response:
            await response.read()
            return response.status, self._puts.answer(response.status, response.headers)
