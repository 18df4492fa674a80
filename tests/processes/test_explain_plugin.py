"""`pytest --explain-closed-files` in other projects' test suites."""

import os
import re
import subprocess
import sys
from pathlib import Path

from patience import PATIENCE

SUITE = '''
import asyncio
import io

import django
import fastapi
import flask
import httpx
import pytest
import quart
from django.conf import settings
from django.test import AsyncClient, Client
from django.urls import path
from starlette.applications import Starlette
from starlette.routing import Mount, Route
from werkzeug.datastructures import FileStorage

settings.configure(SECRET_KEY="x", ALLOWED_HOSTS=["*"])
django.setup()


class OwnRequest(flask.Request):
    """A request class of the suite's app."""

    own = True


def make_app(request_class=None):
    app = flask.Flask(__name__)
    app.testing = True
    if request_class is not None:
        app.request_class = request_class
    blueprint = flask.Blueprint("photos", __name__)

    @blueprint.post("/photos")
    def store_photo():
        photo = flask.request.files["photo"]
        photo.close()
        return photo.read()

    app.register_blueprint(blueprint)
    return app


@pytest.fixture
def client():
    return make_app().test_client()


def upload(client):
    return client.post("/photos", data={"photo": (io.BytesIO(b"x"), "hello.txt")})


def test_flask_fixture(client):
    upload(client)


def test_flask_own_request_class():
    app = make_app(OwnRequest)
    app.before_request(lambda: None if flask.request.own else "never")
    upload(app.test_client())


def test_flask_in_an_app_context():
    app = make_app()
    with app.app_context():
        upload(app.test_client())


def test_flask_test_request_context():
    with make_app().test_request_context("/photos", method="POST", data={"photo": (io.BytesIO(b"x"), "hello.txt")}):
        photo = flask.request.files["photo"]
        photo.close()
        photo.read()


def test_quart():
    app = quart.Quart(__name__)
    failed = []

    @app.post("/")
    async def store_photo():
        photo = (await quart.request.files)["photo"]
        photo.close()
        try:
            photo.read()
        except ValueError as error:
            failed.append(error)
        return ""

    asyncio.run(app.test_client().post("/", files={"photo": FileStorage(io.BytesIO(b"x"), "hello.txt")}))
    raise failed[0]


async def starlette_view(request):
    photo = (await request.form())["photo"].file
    photo.close()
    photo.read()


def fastapi_view(photo: fastapi.UploadFile):
    photo = photo.file
    photo.close()
    photo.read()


def upload_asgi(app):
    async def post():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
            await client.post("/", files={"photo": ("hello.txt", b"x")})

    asyncio.run(post())


def test_starlette():
    upload_asgi(Starlette(routes=[Route("/", starlette_view, methods=["POST"])]))


def fastapi_app():
    app = fastapi.FastAPI()
    app.post("/")(fastapi_view)
    return app


def test_fastapi():
    upload_asgi(fastapi_app())


def test_fastapi_mounted_in_starlette():
    upload_asgi(Starlette(routes=[Mount("/", fastapi_app())]))


class Urls:
    def django_view(request):
        photo = request.FILES["photo"]
        photo.close()
        photo.read()

    urlpatterns = [path("", django_view)]


def django_form():
    photo = io.BytesIO(b"x")
    photo.name = "hello.txt"
    return {"photo": photo}


def test_django(monkeypatch):
    monkeypatch.setattr(settings, "ROOT_URLCONF", Urls, raising=False)
    Client().post("/", django_form())


def test_django_async(monkeypatch):
    monkeypatch.setattr(settings, "ROOT_URLCONF", Urls, raising=False)
    asyncio.run(AsyncClient().post("/", django_form()))


def test_without_an_app():
    assert "hello"
'''
#: Plugins that the suite does not need, and the slowest of the others.
WITHOUT = [f"-pno:{name}" for name in ("cacheprovider", "cov", "schemathesis")]
TESTS = len(re.findall(r"^def test_", SUITE, re.MULTILINE)) - 1


def run_suite(folder: Path, *options: str) -> str:
    """Run pytest on the suite and return its output.

    Exactly the tests with an app must fail.
    """
    (folder / "test_suite.py").write_text(SUITE, "utf-8")
    command = [sys.executable, "-m", "pytest", *WITHOUT, "--color=no", *options]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    done = subprocess.run(  # noqa: S603 - this Python
        command, cwd=folder, env=environ, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert re.search(rf"{TESTS} failed, 1 passed", done.stdout), done.stdout + done.stderr
    return done.stdout


def test_every_app_of_a_suite_is_explained(tmp_path: Path) -> None:
    """Each failure has the note with the suite's own line: every framework, request classes, contexts, mounted apps."""
    output = run_suite(tmp_path, "--explain-closed-files")
    notes = [
        line for line in output.splitlines() if re.match(r"E +The upload 'hello\.txt' of the form field 'photo'", line)
    ]
    assert len(notes) == TESTS, output
    assert all("test_suite.py:" in note and "(`photo.close()`)" in note for note in notes)


def test_without_the_option_nothing_is_explained(tmp_path: Path) -> None:
    """The loaded plugin imports neither the explainer nor any other module of the package."""
    (tmp_path / "conftest.py").write_text(
        "import sys\n\ndef pytest_configure():\n"
        "    loaded = {name for name in sys.modules if name.partition('.')[0] == 'filehandoff'}\n"
        "    assert loaded == {'filehandoff', 'filehandoff.pytest_plugin'}\n",
        "utf-8",
    )
    assert "The upload" not in run_suite(tmp_path)
