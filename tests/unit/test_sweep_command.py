"""The command `sweep-uploads` without a shell: its output, its calls and its exit status."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner, Result
from unit.s3.script import BUSY, DENIED, GONE, Line, Refusal, count, expect, play

from filehandoff.errors import SettingsError
from filehandoff.s3.calls import Flow
from filehandoff.service import Service
from filehandoff.settings import Settings
from filehandoff.sweep_command import sweep_command

OLD = datetime.now(UTC) - timedelta(days=3)
KEY = "2026/11/21/01a206a2-f2c4-7313-a824-4681caf514d0/"


@pytest.fixture
def service() -> Service:
    """Make a service with a key prefix."""
    return Service("flask", Settings(bucket="photos", key_prefix="in/"))


def listed(*names: str, began: datetime = OLD) -> Line:
    """The call that lists uploads of these names below the prefix."""
    uploads = [{"Key": f"in/{KEY}{name}", "UploadId": name, "Initiated": began} for name in names]
    return expect("list_multipart_uploads", {"Uploads": uploads}, Prefix="in/")


def aborted(name: str, answer: object = None) -> Line:
    """The call that aborts the upload of this name."""
    return expect("abort_multipart_upload", answer, Key=f"in/{KEY}{name}", UploadId=name)


def sweep(service: Service, arguments: str, *script: Line) -> Result:
    """Run the command, and play its flow against the script."""
    return invoke(service, arguments, lambda flow: play(flow, *script))


def invoke(service: Service, arguments: str, run: Callable[[Flow[bool]], bool]) -> Result:
    """Run the command with this shell."""
    result = CliRunner().invoke(sweep_command("the_app", service, run), arguments)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_without_abort_the_command_only_lists(service: Service) -> None:
    """Without --abort, the list is the only call."""
    result = sweep(service, "", listed("a", "b"))
    assert result.exit_code == 0
    assert f"in/{KEY}a  a" in result.stdout
    assert "2 unfinished uploads of this app older than 24h in the bucket 'photos' under 'in/'" in result.stdout
    assert "Nothing was changed" in result.stdout


def test_the_command_aborts_old_uploads(service: Service) -> None:
    """The summary counts the aborted uploads."""
    result = sweep(service, "--abort", listed("a", "b"), aborted("a"), aborted("b"))
    assert result.exit_code == 0
    assert "2 aborted." in result.stdout
    assert count(service.metrics.aborts) == 2


def test_an_upload_that_is_gone_by_then_is_no_failure(service: Service) -> None:
    """Another run may have aborted it."""
    result = sweep(service, "--abort", listed("a"), aborted("a", GONE))
    assert (result.exit_code, "1 aborted." in result.stdout) == (0, True)


def test_the_command_fails_if_an_upload_cannot_be_aborted(service: Service) -> None:
    """The other uploads are still aborted."""
    result = sweep(service, "--abort", listed("a", "b"), aborted("a", DENIED), aborted("b"))
    assert result.exit_code == 1
    assert "not aborted" in result.stderr
    assert "AccessDenied" in result.stderr
    assert "1 aborted, 1 failed." in result.stdout


def test_younger_and_foreign_uploads_are_ignored(service: Service) -> None:
    """The option sets the minimum age."""
    young = datetime.now(UTC) - timedelta(hours=2)
    result = sweep(service, "--abort --older-than 3h", listed("a", began=young))
    assert "No unfinished upload of this app older than 3h" in result.stdout
    assert "1 younger one ignored" in result.stdout
    foreign = expect("list_multipart_uploads", {"Uploads": [{"Key": "in/x", "UploadId": "x"}]}, Prefix="in/")
    assert "No unfinished upload" in sweep(service, "--abort", foreign).stdout


def test_an_invalid_age_is_a_usage_error(service: Service) -> None:
    """The command makes no call to S3."""
    result = sweep(service, "--older-than soon")
    assert result.exit_code == 2
    assert "'soon' is no age" in result.stderr


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        pytest.param(Refusal(404, "NoSuchBucket"), "there is no bucket 'photos'", id="no bucket"),
        pytest.param(DENIED, "AccessDenied", id="denied"),
        pytest.param(BUSY, "SlowDown", id="busy"),
    ],
)
def test_a_failed_list_is_one_line(service: Service, refusal: Refusal, words: str) -> None:
    """The line has S3's message."""
    result = sweep(service, "", expect("list_multipart_uploads", refusal, Prefix="in/"))
    assert result.exit_code == 1
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_wrong_setting_of_the_shell_is_one_line(service: Service) -> None:
    """The shell opens its clients only in `run`."""

    def run(_flow: Flow[bool]) -> bool:
        raise SettingsError("AWS_PROFILE", "none", "a profile")

    result = invoke(service, "", run)
    assert result.exit_code == 1
    assert result.stderr == "Error: AWS_PROFILE is 'none'; it must be a profile\n"


def test_a_misspelt_setting_is_reported(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a misspelt bucket, the command would sweep another bucket."""
    monkeypatch.setenv("UPLOAD_BUKET", "photos")
    result = sweep(service, "", listed())
    assert "the_app: UPLOAD_BUKET is no setting; was UPLOAD_BUCKET meant?" in result.stderr
