"""The note names the closer of Django's `UploadedFile`."""

import copy
import io
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from unit.explain.apps import SIZES, notes
from unit.explain.conftest import Store
from werkzeug.test import Client, EnvironBuilder

from filehandoff.explain import explain_closed_files

django: Any = pytest.importorskip("django", reason="the benchmark's environment has it")

from django.conf import settings  # noqa: E402 - installed
from django.core.files.storage import FileSystemStorage  # noqa: E402
from django.core.handlers.asgi import ASGIHandler  # noqa: E402
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest  # noqa: E402
from django.http import HttpResponse, StreamingHttpResponse  # noqa: E402
from django.test import Client as DjangoClient  # noqa: E402
from django.urls import path  # noqa: E402

if not settings.configured:
    # A file of more bytes than this goes to disk, as in the tests of the other frameworks.
    settings.configure(SECRET_KEY="of tests", ALLOWED_HOSTS=["*"], FILE_UPLOAD_MAX_MEMORY_SIZE=500_000)
    django.setup()

END = (
    "the end of the request (django.http.response:close), which closes every file of the request; this reader came "
    "too late"
)


class Urls:
    """The URLs of an app with one view."""

    def __init__(self, view: Any) -> None:
        self.urlpatterns = [path("", view)]


@pytest.fixture
def post(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Send one file to a view; raise its error."""

    def post(view: Any, size: int = 100, *, explained: bool = True) -> Any:
        monkeypatch.setattr(settings, "ROOT_URLCONF", Urls(view), raising=False)
        monkeypatch.setattr(settings, "DEBUG_PROPAGATE_EXCEPTIONS", True)
        handler = WSGIHandler()
        if explained:
            explain_closed_files(handler)
        data = {"photo": (io.BytesIO(bytes(size)), "hello.txt")}
        environ = EnvironBuilder("/", method="POST", data=data).get_environ()
        try:
            with Client(handler).open(environ) as response:
                return response.get_data()
        finally:
            environ["wsgi.input"].close()  # on disk, if the file is large

    return post


def note_of(post: Any, view: Callable[[Any], Any], size: int = 100) -> str:
    """Return the note on the view's error, or on a read after the request."""
    kept: list[Any] = []

    def keep(request: Any) -> Any:
        kept.append(request.FILES["photo"])
        return view(kept[0]) or HttpResponse()

    def post_and_read() -> None:
        post(keep, size)
        kept[0].read()

    with pytest.raises(ValueError, match="closed file") as caught:
        post_and_read()
    [note] = notes(caught.value)
    return note


def closer(note: str) -> str:
    """Return the note's text about the closer."""
    assert note.startswith("The upload 'hello.txt' of the form field 'photo' was closed by ")
    return note.partition(" was closed by ")[2].partition(". That was in ")[0]


@pytest.mark.parametrize("size", SIZES)
def test_the_end_of_the_request_is_named(post: Any, size: str) -> None:
    """A thread that outlives the request reads too late: the note has closer, thread, time, fix and page."""
    note = note_of(post, lambda _file: None, SIZES[size])
    assert closer(note) == END
    assert re.search(
        r"in thread 'MainThread', \d+\.\d ms after the view began\. To fix it, read all bytes while ", note
    )
    assert note.endswith(
        "or respond when everything is stored. To read more, run `python -m filehandoff.explain after-response`."
    )


def test_a_file_that_closes_with_the_response_can_be_streamed(post: Any) -> None:
    """Django closes the files when the response is closed, so a streamed response reads them."""
    assert post(lambda request: StreamingHttpResponse(request.FILES["photo"].chunks())) == bytes(100)


def close(file: Any) -> None:
    """Close the file by name."""
    file.close()  # on a line of its own


def leave(file: Any) -> None:
    """Close the file by a `with` block."""
    with file:
        pass


def hand_on(file: Any) -> None:
    """Close the file in a pool."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(file.close)


CLOSES: dict[Callable[[Any], Any], str] = {
    close: "`file.close()  # on a line of its own`)",
    leave: "`with file:`)",
    hand_on: "`pool.submit(file.close)`), which handed the close to another thread or task",
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("function", CLOSES)
def test_the_apps_own_close_is_named_by_its_line(post: Any, function: Callable[[Any], Any], size: str) -> None:
    """The note has the line of the app that closes the file, or that hands the close on."""
    note = note_of(post, function, SIZES[size])
    assert closer(note).startswith(f"the app's own code at {__file__}:")
    assert closer(note).endswith(f" in {function.__name__} ({CLOSES[function]}")
    assert note.endswith("run `python -m filehandoff.explain own-close`.")


@pytest.mark.parametrize("size", SIZES)
def test_a_collected_wrapper_is_named(post: Any, size: str) -> None:
    """A TextIOWrapper around the `UploadedFile` closes it when Python collects the wrapper."""

    def view(file: Any) -> None:
        io.TextIOWrapper(file).read()

    note = note_of(post, view, SIZES[size])
    assert closer(note).startswith(
        "a TextIOWrapper or another wrapper, which closes its file when Python collects it, here in the app's own code"
    )
    assert "(`io.TextIOWrapper(file).read()`)" in note


@pytest.mark.parametrize("size", SIZES)
def test_a_wrapper_of_a_closed_file_is_explained(post: Any, size: str) -> None:
    """The error of a TextIOWrapper whose `UploadedFile` is closed has the note."""

    def view(file: Any) -> None:
        text = io.TextIOWrapper(file)
        file.close()
        try:
            text.read()
        finally:
            text.detach()

    assert "(`file.close()`)" in note_of(post, view, SIZES[size])


@pytest.mark.parametrize("size", SIZES)
def test_the_transfer_manager_is_named(post: Any, s3: Store, size: str) -> None:
    """A storage that uploads by boto3 loses the file for its next reader (jschneier/django-storages#382)."""

    def view(file: Any) -> None:
        s3.client().upload_fileobj(file, "bucket", "k")
        file.seek(0)

    note = note_of(post, view, SIZES[size])
    assert closer(note).startswith("boto3's S3 transfer manager (s3transfer.upload:close")
    assert note.endswith("run `python -m filehandoff.explain transfer-closes`.")


def by_everything(file: Any) -> Any:
    """Read the file by each of its methods."""
    return (
        (
            file.name,
            file.size,
            file.content_type,
            repr(file),
            len(file),
            type(file).__qualname__,
            type(file).__module__,
        ),
        (file.read(3), file.tell(), file.seek(0), file.readline(), list(file), b"".join(file.chunks())),
        (file.multiple_chunks(), file.closed, file.open().read(1), file.readable(), file.seekable()),
    )


@pytest.mark.parametrize("size", SIZES)
def test_an_explained_file_is_read_as_a_plain_one(post: Any, size: str, tmp_path: Any) -> None:
    """Attributes, reads, and a save are the same with and without explaining."""
    results: list[Any] = []

    def view(request: Any) -> Any:
        storage = FileSystemStorage(tmp_path)
        file = request.FILES["photo"]
        with storage.open(storage.save("saved", file)) as saved:
            results.append((by_everything(file), saved.read()))
        return HttpResponse()

    for explained in (True, False):
        post(view, SIZES[size], explained=explained)
    assert results[0] == results[1]
    assert results[0][1] == bytes(SIZES[size])


def test_a_deep_copy_is_a_plain_file(post: Any) -> None:
    """A deep copy of an explained file outlives the request and explains nothing."""
    kept: list[Any] = []

    def view(request: Any) -> Any:
        kept.append(copy.deepcopy(request.FILES["photo"]))
        assert type(kept[0]) is not type(request.FILES["photo"])
        return HttpResponse()

    post(view)
    assert kept[0].read() == bytes(100)
    kept[0].close()
    with pytest.raises(ValueError, match="closed file") as caught:
        kept[0].read()
    assert notes(caught.value) == []


def test_the_request_keeps_its_class(post: Any) -> None:
    """A request is an instance of a subclass with the same name."""
    seen: list[Any] = []

    def view(request: Any) -> Any:
        seen.append(request)
        return HttpResponse(request.resolver_match.route)

    post(view)
    assert isinstance(seen[0], WSGIRequest)
    assert type(seen[0]) is not WSGIRequest
    assert (type(seen[0]).__qualname__, type(seen[0]).__module__) == (WSGIRequest.__qualname__, WSGIRequest.__module__)


def test_a_test_clients_handler_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """`explain_closed_files(client.handler)` explains the requests of Django's test client."""

    def view(request: Any) -> Any:
        request.FILES["photo"].close()
        return HttpResponse(request.FILES["photo"].read())

    monkeypatch.setattr(settings, "ROOT_URLCONF", Urls(view), raising=False)
    client = DjangoClient()
    explain_closed_files(client.handler)
    with pytest.raises(ValueError, match="closed file") as caught:
        client.post("/", {"photo": io.BytesIO(b"x")})
    assert '(`request.FILES["photo"].close()`)' in notes(caught.value)[0]


@pytest.mark.parametrize("of_a_coroutine", [True, False], ids=["async view", "view"])
async def test_the_asgi_handler_is_explained(monkeypatch: pytest.MonkeyPatch, of_a_coroutine: bool) -> None:  # noqa: FBT001 - parametrised
    """The end of a request of the ASGI handler is named, in a view and in an async view."""
    httpx: Any = pytest.importorskip("httpx", reason="the benchmark's environment has it")
    kept: list[Any] = []

    def view(request: Any) -> Any:
        kept.append(request.FILES["photo"])
        return HttpResponse()

    async def async_view(request: Any) -> Any:
        return view(request)

    monkeypatch.setattr(settings, "ROOT_URLCONF", Urls(async_view if of_a_coroutine else view), raising=False)
    handler = ASGIHandler()
    explain_closed_files(handler)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(handler), base_url="http://app") as client:
        await client.post("/", files={"photo": ("hello.txt", b"x")})
    with pytest.raises(ValueError, match="closed file") as caught:
        kept[0].read()
    assert closer(notes(caught.value)[0]) == END


def test_explaining_twice_does_nothing_more() -> None:
    """A second call keeps the methods of the first."""
    handler = WSGIHandler()
    explain_closed_files(handler)
    before = dict(vars(handler))
    explain_closed_files(handler)
    assert vars(handler) == before
