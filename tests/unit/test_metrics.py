"""The numbers of one app: the counted events, their labels, and the text format."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client import values
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from filehandoff.errors import (
    BodyTooLarge,
    FormMalformed,
    Internal,
    Locked,
    MethodNotAllowed,
    ObjectMissing,
    Overloaded,
    RequestTimedOut,
    SettingsError,
    StoreRejected,
    StoreUnavailable,
    TooManyRequests,
    UnknownHandoff,
    UploadError,
    file_closed,
)
from filehandoff.metrics import FOLDER_VARIABLE, OUTCOMES, REFUSALS, Metrics, judge, share_numbers
from filehandoff.strategies import HANDOFFS, TUS
from filehandoff.web.openapi import METRICS


@pytest.fixture
def metrics() -> Metrics:
    """The numbers of a new app."""
    return Metrics()


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """Return one series' value; None if the series does not exist."""
    return metrics.registry.get_sample_value(f"handoff_{name}", labels)


CASES = [
    pytest.param(BodyTooLarge("…"), "refused", "body-too-large", id="a limit"),
    pytest.param(RequestTimedOut("…"), "refused", "request-timeout", id="a client that stands still"),
    pytest.param(FormMalformed("…"), "refused", "form-malformed", id="no form"),
    pytest.param(FormMalformed("…", cut_short=True), "abandoned", "", id="a body cut short"),
    pytest.param(UnknownHandoff("…"), "refused", "unknown-handoff", id="a hand-off that is none"),
    pytest.param(Overloaded("…"), "refused", "overloaded", id="a process that is full or ends"),
    pytest.param(MemoryError(), "refused", "overloaded", id="a process without memory"),
    pytest.param(ObjectMissing("…"), "refused", "object-missing", id="a client that sent nothing to S3"),
    pytest.param(MethodNotAllowed("…"), "refused", "other", id="an error of no upload"),
    pytest.param(file_closed("file", "copied"), "lost", "file-closed", id="a known failure"),
    pytest.param(StoreRejected("…"), "failed", "store-rejected", id="S3 says no"),
    pytest.param(StoreUnavailable("…"), "failed", "store-unavailable", id="S3 says nothing"),
    pytest.param(Internal("…"), "failed", "internal", id="an error of ours"),
    pytest.param(ValueError("…"), "failed", "internal", id="any other error"),
    pytest.param(KeyboardInterrupt(), "abandoned", "", id="no error at all, as a cancelled task has"),
]


def test_a_request_refused_for_overload_or_a_limit_is_counted(metrics: Metrics) -> None:
    """Such a refusal is counted for other requests than uploads too."""
    with pytest.raises(TooManyRequests), metrics.refusals():
        raise TooManyRequests("no", 1)
    with pytest.raises(Overloaded), metrics.refusals():
        raise Overloaded("…")
    with pytest.raises(ObjectMissing), metrics.refusals():
        raise ObjectMissing("…")
    with metrics.refusals():
        pass
    assert value(metrics, "refusals_total", reason="overloaded") == 1
    assert value(metrics, "refusals_total", reason="too-many-requests") == 1
    assert value(metrics, "refusals_total", reason="object-missing") == 0
    assert value(metrics, "uploads_total", handoff="stream", outcome="refused") == 0


@pytest.mark.parametrize(("error", "outcome", "reason"), CASES)
def test_an_upload_is_counted_by_how_it_ends(metrics: Metrics, error: BaseException, outcome: str, reason: str) -> None:
    """One upload adds 1 to its outcome and to its reason."""
    with pytest.raises(type(error)), metrics.upload("stream"):
        raise error
    counted = {name: value(metrics, "uploads_total", handoff="stream", outcome=name) for name in OUTCOMES}
    assert counted == dict.fromkeys(OUTCOMES, 0) | {outcome: 1}
    assert value(metrics, "upload_seconds_count", handoff="stream", outcome=outcome) == 1
    told = {name: value(metrics, f"{name}_total", reason=reason) or 0 for name in ("refusals", "failures")}
    assert value(metrics, "uploads_in_flight") == 0
    assert told == {"refusals": int(outcome == "refused"), "failures": int(outcome in {"failed", "lost"})}


def test_an_unknown_code_makes_no_label() -> None:
    """An error with a code outside the table has the reason `other`."""
    unknown = UploadError("…")
    unknown.code = "made-up"
    assert judge(unknown) == ("failed", "other")
    unknown.status = 418
    assert judge(unknown) == ("refused", "other")


def test_a_stored_upload_is_counted_with_its_files(metrics: Metrics) -> None:
    """The sizes of stored files go into a counter and a histogram."""
    with metrics.upload("file"):
        metrics.count_files("file", [0, 11, 5 * 1024**4])
    assert value(metrics, "uploads_total", handoff="file", outcome="stored") == 1
    assert value(metrics, "stored_bytes_total", handoff="file") == 11 + 5 * 1024**4
    assert value(metrics, "file_bytes_sum", handoff="file") == 11 + 5 * 1024**4
    assert value(metrics, "file_bytes_bucket", handoff="file", le="1024.0") == 2
    assert value(metrics, "file_bytes_bucket", handoff="file", le="+Inf") == 3


def test_an_upload_that_only_begins_has_not_ended(metrics: Metrics) -> None:
    """A presigned upload is counted when it begins, not as an ended upload."""
    with metrics.upload("presigned", begins=True):
        pass
    with pytest.raises(BodyTooLarge), metrics.upload("presigned", begins=True):
        raise BodyTooLarge("…")
    assert value(metrics, "presigned_total") == 1
    assert value(metrics, "uploads_total", handoff="presigned", outcome="stored") == 0
    assert value(metrics, "uploads_total", handoff="presigned", outcome="refused") == 1
    assert value(metrics, "upload_seconds_count", handoff="presigned", outcome="stored") is None


def test_a_request_of_a_resumable_upload_ends_no_upload(metrics: Metrics) -> None:
    """Its errors count by their codes; the upload counts when its object is stored."""
    with metrics.chunk():
        assert value(metrics, "uploads_in_flight") == 1
    with pytest.raises(Locked), metrics.chunk():
        raise Locked
    assert value(metrics, "uploads_in_flight") == 0
    assert value(metrics, "refusals_total", reason="locked") == 1
    assert value(metrics, "uploads_total", handoff=TUS, outcome="stored") == 0
    metrics.count_resumed(2.0)
    assert value(metrics, "uploads_total", handoff=TUS, outcome="stored") == 1
    assert value(metrics, "upload_seconds_sum", handoff=TUS, outcome="stored") == 2


def test_uploads_and_parts_in_flight_are_counted(metrics: Metrics) -> None:
    """Uploads and parts count as in flight only within their blocks."""
    with metrics.upload("stream"), metrics.part(), metrics.part():
        assert value(metrics, "uploads_in_flight") == 1
        assert value(metrics, "parts_in_flight") == 2
    assert value(metrics, "uploads_in_flight") == 0
    assert value(metrics, "parts_in_flight") == 0


def test_a_name_that_a_client_made_up_makes_no_series(metrics: Metrics) -> None:
    """All unknown names of hand-offs share one series."""
    for name in ("nonsense", "Stream", "../stream", 'a"} 1\nx{b="'):
        with pytest.raises(UnknownHandoff), metrics.upload(name):
            raise UnknownHandoff("…")
    series = [sample for family in metrics.registry.collect() for sample in family.samples]
    assert {sample.labels["handoff"] for sample in series if "handoff" in sample.labels} == {*HANDOFFS, TUS, "unknown"}
    assert value(metrics, "uploads_total", handoff="unknown", outcome="refused") == 4


def test_series_exist_before_their_first_event(metrics: Metrics) -> None:
    """The outcomes of every hand-off, and every reason of a refusal, start at 0."""
    assert [value(metrics, "uploads_total", handoff=one, outcome=two) for one in HANDOFFS for two in OUTCOMES] == [
        0
    ] * len(HANDOFFS) * len(OUTCOMES)
    assert [value(metrics, "refusals_total", reason=reason) for reason in REFUSALS] == [0] * len(REFUSALS)


def test_every_try_but_the_first_is_a_retry(metrics: Metrics) -> None:
    """A retry is counted by botocore's number of the attempt, for each operation."""
    for attempt in (1, 2, 3, 1):
        request = SimpleNamespace(context={"retries": {"attempt": attempt}})
        metrics.count_retry(request, "UploadPart", event_name="request-created.s3.UploadPart")
    assert value(metrics, "s3_retries_total", operation="UploadPart") == 2


def test_two_apps_in_one_process_count_for_themselves(metrics: Metrics) -> None:
    """Two apps in one process have separate registries."""
    with Metrics().upload("stream"):
        pass
    assert value(metrics, "uploads_total", handoff="stream", outcome="stored") == 0


@pytest.mark.parametrize(
    ("accept", "content_type", "end"),
    [
        pytest.param("", "text/plain; version=0.0.4; charset=utf-8", "", id="nothing asked"),
        pytest.param("*/*", "text/plain; version=0.0.4; charset=utf-8", "", id="anything"),
        pytest.param("application/openmetrics-text", "application/openmetrics-text", "# EOF\n", id="OpenMetrics"),
    ],
)
def test_accept_chooses_the_format(metrics: Metrics, accept: str, content_type: str, end: str) -> None:
    """`Accept` chooses the text format of Prometheus or OpenMetrics; both have the process's own numbers."""
    text, told = metrics.render(accept)
    assert told.startswith(content_type)
    assert text.decode().endswith(end)
    assert b"\nprocess_open_fds " in text
    assert b"_created" not in text


def test_the_described_example_is_one(metrics: Metrics) -> None:
    """The example in the OpenAPI document is part of a new app's response."""
    assert METRICS in metrics.render("")[0].decode()
    assert [family.name for family in text_string_to_metric_families(METRICS)] == ["handoff_uploads_in_flight"]


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The number of the counting process, which a test can change."""
    number = [1]
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setattr(values, "ValueClass", values.MultiProcessValue(lambda: number[0]))
    yield number
    values.close_all_multiprocess_files()


def test_processes_that_share_a_folder_are_added_up(process: list[int]) -> None:
    """Each process reports the numbers of all, except those that only describe one process."""
    told = []
    for process[0], size in ((1, 11), (2, 4)):
        metrics = Metrics()
        with metrics.upload("stream"):
            metrics.count_files("stream", [size])
            told.append(metrics.render("")[0].decode())
    first, second = ({sample.name: sample.value for sample in of_stream(text)} for text in told)
    assert (first["handoff_stored_bytes_total"], second["handoff_stored_bytes_total"]) == (11, 15)
    assert (first["handoff_uploads_total"], second["handoff_uploads_total"]) == (0, 1)
    assert "process_open_fds" not in told[1]


def of_stream(text: str) -> list[Sample]:
    """Return the samples of the hand-off `stream`, of its outcome `stored`."""
    wanted = ({"handoff": "stream"}, {"handoff": "stream", "outcome": "stored"})
    families = text_string_to_metric_families(text)
    return [sample for family in families for sample in family.samples if sample.labels in wanted]


@pytest.mark.usefixtures("process")
def test_a_shared_folder_that_is_missing_is_a_wrong_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has the variable, its value and the valid values."""
    monkeypatch.setenv(FOLDER_VARIABLE, "/nowhere/at/all")
    with pytest.raises(SettingsError, match="PROMETHEUS_MULTIPROC_DIR is '/nowhere/at/all'; it must be a folder that"):
        Metrics()


@pytest.fixture
def no_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An environment without a folder for numbers, and the temporary folder."""
    monkeypatch.setenv(FOLDER_VARIABLE, "restored after the test")
    monkeypatch.delenv(FOLDER_VARIABLE)
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_several_processes_get_a_folder(no_folder: Path) -> None:
    """A new folder is created, named in the environment, and used."""
    folder = share_numbers(2)
    assert folder is not None
    assert Path(folder).parent == no_folder
    assert os.environ[FOLDER_VARIABLE] == folder
    Metrics()
    assert list(Path(folder).iterdir())
    values.close_all_multiprocess_files()


def test_one_process_gets_none(no_folder: Path) -> None:
    """A single process keeps its numbers in memory, with those that describe one process."""
    assert share_numbers(1) is None
    assert list(no_folder.iterdir()) == []
    assert FOLDER_VARIABLE not in os.environ


def test_a_folder_that_the_environment_names_is_kept(no_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of the operator's is used, and no other is created."""
    monkeypatch.setenv(FOLDER_VARIABLE, "/of/the/operator")
    assert share_numbers(2) is None
    assert list(no_folder.iterdir()) == []


@pytest.mark.usefixtures("no_folder")
def test_a_folder_that_cannot_be_made_is_a_wrong_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has TMPDIR and its value."""
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere/at/all")
    with pytest.raises(SettingsError, match=r"TMPDIR is '.*'; it must be a writable folder"):
        share_numbers(2)
