"""`nox`: test the explanations on the oldest and the newest supported version of each framework.

Each session has its own environment, with pandas, which `make test` does without. The newest frameworks run on every
supported Python that is present. The old ones use deprecated features of Python, so their warnings are allowed.
"""

import os

import nox

nox.options.default_venv_backend = "venv"

#: Packages that the tests need besides a framework.
# boto3 comes with aioboto3; if both were named, pip would try hundreds of versions
TOOLS = ("pytest", "pytest-asyncio", "pytest-xdist", "hypothesis", "uvloop", "pillow", "pandas", "rich", "aioboto3")
#: The tests of every session; they include suites without the plugin's options, and partly installed frameworks.
TESTS = ("tests/unit/explain", "tests/processes/test_explain_signals.py")

#: The oldest frameworks with equally old dependencies. No supported Quart works with a Flask as old as 2.2.
OLDEST_FLASK = ("flask==2.2.0", "werkzeug==2.2.0")
OLDEST_QUART = ("quart==0.19.5", "flask==3.0.0", "werkzeug==3.0.0")
#: FastAPI with Starlette, and Django: the newest and the oldest. httpx sends the requests of their tests.
OTHERS = ("fastapi", "django", "python-multipart", "httpx")
OLDEST_OTHERS = ("fastapi==0.105.0", "django==4.2.16", "python-multipart", "httpx")


def test(session: nox.Session, *frameworks: str) -> None:
    """Install the package without extras, the frameworks and the tools, and run the tests."""
    session.install("-e", ".", *TOOLS, *frameworks)
    session.run("python", "-m", "pip", "freeze", "--exclude-editable")
    session.run("pytest", *TESTS, "-q", "-n", "2", "-o", "filterwarnings=default", *session.posargs)


@nox.session(python="3.13")
def oldest_flask(session: nox.Session) -> None:
    """Test Flask 2.2.0 without Quart."""
    test(session, *OLDEST_FLASK, "blinker")


@nox.session(python="3.13")
def no_signals(session: nox.Session) -> None:
    """Test Flask 2.2.0 without blinker, hence without signals; later versions require blinker."""
    test(session, *OLDEST_FLASK)


@nox.session(python="3.13")
def oldest_quart(session: nox.Session) -> None:
    """Test Quart 0.19.5 with the oldest Flask that it supports."""
    test(session, *OLDEST_QUART)


@nox.session(python=["3.11", "3.12", "3.13", "3.14"])
def newest(session: nox.Session) -> None:
    """Test the newest of all, with libraries that handle errors before Flask or run Quart on trio."""
    test(session, "flask", "quart", "flask-restx", "quart-trio", "anyio", *OTHERS)


@nox.session(python="3.13")
def oldest_others(session: nox.Session) -> None:
    """Test the oldest supported FastAPI and Django, with the newest Flask."""
    test(session, "flask", *OLDEST_OTHERS)


@nox.session(python="3.13")
def flask_main(session: nox.Session) -> None:
    """Test Flask's main branch from a checkout, which the environment variable FLASK_SOURCE names."""
    if "FLASK_SOURCE" not in os.environ:
        session.skip("FLASK_SOURCE names no checkout of Flask")
    test(session, os.environ["FLASK_SOURCE"], "quart")
