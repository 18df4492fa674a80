"""`nox`: the tests of explaining on the oldest and the newest Flask and Quart that it supports.

Each session is an environment of its own, which has pandas too; the tests of `make test` do without. The package needs
Python 3.13 or newer, and these versions work there, with warnings of what Python will remove, which are let through.
"""

import nox

nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = True

#: What the tests need beside a framework.
# aioboto3 brings a boto3 that it works with: with the newest named too, pip would try hundreds.
TOOLS = ("pytest", "pytest-asyncio", "pytest-xdist", "hypothesis", "pillow", "pandas", "rich", "aioboto3")
#: What the plugin is tested by in every session: suites that never asked for it, and frameworks that are half there.
TESTS = ("tests/unit/explain", "tests/processes/test_explain_signals.py")

#: The frameworks, and what must be as old as they. No Quart that explains takes a Flask as old as 2.2.
OLDEST_FLASK = ("flask==2.2.0", "werkzeug==2.2.0")
OLDEST_QUART = ("quart==0.19.5", "flask==3.0.0", "werkzeug==3.0.0")


def test(session: nox.Session, *frameworks: str) -> None:
    """Install the package without extras, the frameworks and the tools, and run the tests."""
    session.install("-e", ".", *TOOLS, *frameworks)
    session.run("python", "-m", "pip", "freeze", "--exclude-editable")
    session.run("pytest", *TESTS, "-q", "-n", "2", "-o", "filterwarnings=default", *session.posargs)


@nox.session(python="3.13")
def oldest_flask(session: nox.Session) -> None:
    """Flask 2.2.0, without Quart."""
    test(session, *OLDEST_FLASK, "blinker")


@nox.session(python="3.13")
def no_signals(session: nox.Session) -> None:
    """Flask 2.2.0 without blinker, which has no signals: the frameworks since then bring it."""
    test(session, *OLDEST_FLASK)


@nox.session(python="3.13")
def oldest_quart(session: nox.Session) -> None:
    """Quart 0.19.5, with the first Flask that it works with."""
    test(session, *OLDEST_QUART)


@nox.session(python="3.13")
def newest(session: nox.Session) -> None:
    """The newest of both, with libraries that handle errors before Flask does, or run Quart on another loop."""
    test(session, "flask", "quart", "flask-restx", "quart-trio", "anyio")
