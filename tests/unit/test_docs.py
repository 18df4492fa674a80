"""The tables of README.md and docs/ agree with the code.

A row of the settings' table has the variable, the default as an environment variable holds it, and the purpose:
| `UPLOAD_PART_BYTES` | 8 MiB | … |
"""

import json
import re
from dataclasses import fields
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import flask
import pytest

import filehandoff
from filehandoff.errors import UploadError
from filehandoff.explain.closing import Function, ObservedClose
from filehandoff.explain.note import record_of, sentence
from filehandoff.metrics import OUTCOMES, Metrics
from filehandoff.settings import Settings, variable
from filehandoff.strategies import FRAMEWORKS, HANDOFFS, HOOKS, SIZE_CLASSES, verdict
from filehandoff.web.openapi import document

ROOT = Path(filehandoff.__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
SETTINGS = (ROOT / "docs/service/settings.md").read_text("utf-8")
ERRORS = (ROOT / "docs/errors.md").read_text("utf-8")
METRICS = (ROOT / "docs/service/metrics.md").read_text("utf-8")
HTTP_API = (ROOT / "docs/http-api.md").read_text("utf-8")
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
GENERATED = {"benchmark.md", "evidence.md", "faults.md", "matrix.md"}
#: The pages that no program generates.
PAGES = [
    *ROOT.glob("*.md"),
    *(path for path in (ROOT / "docs").rglob("*.md") if path.name not in GENERATED),
    *(ROOT / "filehandoff/explain/pages").glob("*.md"),
]
each_page = pytest.mark.parametrize(
    "page", [pytest.param(path, id=str(path.relative_to(ROOT))) for path in sorted(PAGES)]
)
ROW = re.compile(r"^\|\s*`(UPLOAD_\w+)`\s*\|\s*([^|]*?)\s*\|\s*([^|]*?)\s*\|", re.MULTILINE)

#: The documented text of each default that no environment variable can hold, by its field.
WORDS = {
    "s3_endpoint_url": "none (AWS)",
    "s3_public_endpoint_url": "the same",
    "public_url": "the request's",
    "rate": "no limit",
    "quota": "no limit",
    "limits_store": "the process's memory",
    **dict.fromkeys(
        ("cors_origins", "hosts", "tokens_file", "jwt_issuer", "jwt_audience", "jwt_key_file", "jwt_jwks_url"),
        "not set",
    ),
    "other_app_url": "none",
    "promise_secret": "that of the AWS credentials",
    "key_prefix": "empty",
    "root_path": "empty",
    "max_body_bytes": "file + 1 MiB",
    "webhook_url": "none",
    "webhook_secret": "none",
    "allowed_types": "all",
}


def rows() -> list[tuple[str, str, str]]:
    """Return variable, default and purpose of each row."""
    return ROW.findall(SETTINGS)


def test_every_setting_is_documented_once() -> None:
    """The table has a row for each setting and for nothing else."""
    documented = [name for name, _, _ in rows()]
    assert sorted(documented) == sorted(variable(field.name) for field in fields(Settings))


@pytest.mark.parametrize("name", [field.name for field in fields(Settings)])
def test_the_documented_default_is_the_default(name: str) -> None:
    """Each default is a valid value of the environment variable, or one of `WORDS`."""
    defaults = {variable: default.strip("`") for variable, default, _ in rows()}
    default = defaults[variable(name)]
    if name in WORDS:
        assert default == WORDS[name]
    else:
        assert default
        assert Settings.from_env({variable(name): default}) == Settings()


def test_every_setting_has_a_purpose() -> None:
    """Each row of the table states the purpose of its setting."""
    assert [name for name, _, purpose in rows() if not purpose] == []


def cell(framework: str, handoff: str, hook: str) -> str:
    """Return a cell of the README's grid, which has one column for all sizes."""
    assert list(SIZE_CLASSES) == ["memory", "rolled", "parts"]
    words = {"stored stored stored": "stored", "lost lost lost": "lost", "stored stored lost": "lost above one part"}
    return words[" ".join(verdict(framework, handoff, hook, size) for size in SIZE_CLASSES)]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_grid_has_the_verdicts_of_the_code(framework: str) -> None:
    """Each cell of the README's grid is the verdict of both frameworks."""
    block = README.split("<!-- grid -->")[1].split("<!-- /grid -->")[0]
    [_, *hooks], _, *lines = [
        [text.strip(" `") for text in line.strip("|").split("|")] for line in block.split("\n") if line
    ]
    assert sorted(hooks) == sorted(HOOKS)
    assert lines == [[handoff, *(cell(framework, handoff, hook) for hook in hooks)] for handoff in HANDOFFS]


def test_every_handoff_has_its_costs() -> None:
    """The README's table of hand-offs has the memory and disk costs that `/strategies` returns."""
    rows = re.findall(r"^\| `(\w+)` \| [^|]* \| ([^|]*) \| ([^|]*) \|$", README.split("<!-- grid -->")[0], re.MULTILINE)
    assert sorted(rows) == sorted((one.name, one.memory, one.disk) for one in HANDOFFS.values())


def test_the_readme_shows_the_note_of_the_code() -> None:
    """The note in the README is the explainer's."""
    [shown] = re.findall(r"```text\nValueError: I/O operation on closed file\.\n(.*?)```", README, re.DOTALL)
    closing = SimpleNamespace(
        by_request=True,
        calls=[SimpleNamespace(module="flask.ctx", code=SimpleNamespace(co_name="wrapper"))],
        copied=Function("add_user", "/srv/app.py", 9),
        copier="copy_current_request_context",
        copied_app=False,
        of_form=False,
        event="before-parameter-build.s3.PutObject",
        in_view=True,
        where="thread 'MainThread'",
        milliseconds=3.2,
    )
    assert " ".join(shown.split()) == sentence("cat.jpg", "photo", record_of(cast("ObservedClose", closing)))


def test_the_fix_in_the_readme_stores_both_objects() -> None:
    """The first sample of the README, run in an app, stores the whole file twice."""
    [fix] = re.findall(r"```python\n(from io import BytesIO.*?)```", README, re.DOTALL)
    app, stored = flask.Flask(__name__), dict[str, bytes]()

    def upload_fileobj(body: BytesIO, _bucket: str, key: str) -> None:
        stored[key] = body.read()
        body.close()  # as boto3 does

    exec(fix, {"app": app, "request": flask.request, "s3": SimpleNamespace(upload_fileobj=upload_fileobj)})  # noqa: S102 - ours
    answer = app.test_client().post("/photos", data={"photo": (BytesIO(b"bytes"), "name")})
    assert answer.status_code == 201
    assert stored == {"photo": b"bytes", "copy": b"bytes"}


@each_page
def test_no_page_is_too_long(page: Path) -> None:
    """A page has at most 250 lines, the README 200."""
    assert len(page.read_text("utf-8").splitlines()) <= (200 if page.name == "README.md" else 250)


@each_page
def test_every_sample_is_code(page: Path) -> None:
    """Each Python block compiles, and each JSON block parses."""
    for language, code in re.findall(
        r"^```(python|json)\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL
    ):
        compile(code, page.name, "exec") if language == "python" else json.loads(code)


@each_page
def test_every_make_command_exists(page: Path) -> None:
    """Each `make` command in a page is a target of the Makefile."""
    named = re.findall(r"(?:`|^(?:\$ )?)make ([a-z-]+)", page.read_text("utf-8"), re.MULTILINE)
    assert set(named) <= set(re.findall(r"^# make ([a-z-]+) ", MAKEFILE, re.MULTILINE)) | set(
        re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE)
    )


def test_every_route_is_documented_once() -> None:
    """The table of routes has each method and path of `/openapi.json`, except HEAD."""
    rows = "".join(re.findall(r"^\| (`.*?) \|", HTTP_API, re.MULTILINE))
    documented = [
        f"{method} {re.sub(r'<.*?>', '{}', path)}" for method, path in re.findall(r"`([A-Z]+) (/[^?` ]*)", rows)
    ]
    described = [
        f"{method.upper()} {re.sub(r'{.*?}', '{}', path)}"
        for path, methods in cast("dict[str, dict[str, object]]", document()["paths"]).items()
        for method in methods.keys() - {"parameters", "head"}
    ]
    described.remove("PUT /uploads/presigned")  # a file of that name: `PUT /uploads/<name>` includes it
    assert sorted(documented) == sorted(described)


def test_every_error_code_is_documented_with_its_status() -> None:
    """The table of errors has every error code in the row of its status."""
    documented = {
        (int(status), code)
        for status, codes in re.findall(r"^\| (\d{3}) \| (`[^|]+`) \|", ERRORS, re.MULTILINE)
        for code in re.findall(r"`([a-z-]+)`", codes)
    }
    known, todo = set(), [UploadError]
    while todo:
        error = todo.pop()
        todo += error.__subclasses__()
        known |= {(error.status, error.code)} if not error.__subclasses__() or "code" in vars(error) else set()
    assert documented == known


def test_every_metric_is_documented_with_its_labels() -> None:
    """The table of metrics has each series with its labels, and each outcome."""
    block = METRICS.split("<!-- metrics -->")[1].split("<!-- /metrics -->")[0]
    metrics = Metrics()
    with metrics.upload("file"):
        metrics.count_files("file", [1])
    metrics.count_retry(SimpleNamespace(context={"retries": {"attempt": 2}}), "PutObject")
    expected = {}
    for family in metrics.registry.collect():
        if family.name.startswith("handoff_"):
            series = family.name + ("_total" if family.type == "counter" else "")
            expected[series] = {label for sample in family.samples for label in sample.labels} - {"le"}
    cells = re.findall(r"^\| `(handoff_\w+)` \|([^|]*)\|", block, re.MULTILINE)
    expected |= {"handoff_failures_total": {"reason"}}  # appears with the first failure
    assert {series: set(re.findall(r"`(\w+)`", labels)) for series, labels in cells} == expected
    assert all(f"`{outcome}`" in block for outcome in OUTCOMES)
