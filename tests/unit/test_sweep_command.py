"""The command `sweep-uploads` without a shell: its output, its calls and its exit status."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner, Result
from unit.s3.fake_s3 import FakeS3
from unit.s3.script import BUSY, DENIED, GONE, Line, Refusal, count, expect, play

from filehandoff.errors import SettingsError, StoreUnavailable
from filehandoff.s3 import upload_lock, upload_state
from filehandoff.s3.calls import Flow
from filehandoff.s3.upload_state import State
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


#: The call that lists resumable uploads, of which there are none.
NONE_RESUMABLE = expect("list_objects_v2", Prefix="in/.tus/")


def aborted(name: str, answer: object = None) -> Line:
    """The call that aborts the upload of this name."""
    return expect("abort_multipart_upload", answer, Key=f"in/{KEY}{name}", UploadId=name)


def sweep(service: Service, arguments: str, *script: Line) -> Result:
    """Run the command, and play its flow against the script."""
    return invoke(
        service,
        arguments,
        lambda flow: play(flow, *script[:1], *([NONE_RESUMABLE] if listing(script) else ()), *script[1:]),
    )


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


def listing(script: tuple[Line, ...]) -> bool:
    """Whether the first call succeeds, so that the second one follows."""
    return bool(script) and not isinstance(script[0].answer, Refusal)


class Bucket:
    """A bucket with resumable uploads of several ages."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.store = FakeS3()

    def create(self, name: str, upload_id: str, *, is_done: bool = False) -> State:
        """Create an upload with a part in S3, or a complete one."""
        key = f"in/{KEY}{name}".replace(KEY.split("/")[-2], upload_id)
        named: dict[str, Any] = {"user": "", "request_id": "r", "metadata": "", "concat": "", "length": 5}
        state = State(
            **{"filename": name, "content_type": "a/b", "promised": None, "part_bytes": 5, "largest_file": 9, **named},
            key=key,
            is_done=is_done,
        )
        self.store.run(upload_lock.create(self.service, upload_state.folder_of(self.service, "", upload_id), state))
        if is_done:
            self.store.run(upload_state.put(key, (b"hello",)))
        else:
            self.store._create_multipart_upload(b"", Key=key, Metadata={}, ContentType="")  # noqa: SLF001 - as S3
        return state

    def sweep(self, arguments: str) -> Result:
        """Run the command."""
        return invoke(self.service, arguments, self.store.run)


IDS = [f"019c1234-5678-7abc-89de-f012345678{number:02}" for number in range(3)]


def test_an_expired_resumable_upload_is_removed(service: Service) -> None:
    """With all that is left of it, but not the object of a complete one; a younger upload keeps its parts."""
    bucket = Bucket(service)
    done, old = bucket.create("done", IDS[0], is_done=True), bucket.create("old", IDS[1])
    bucket.store.later(90_000)
    young = bucket.create("young", IDS[2])
    folders = [upload_state.folder_of(service, "", upload_id) for upload_id in IDS]
    bucket.store.objects[f"{folders[1]}rest-x"] = bucket.store.objects[f"{folders[1]}00000001"]
    listed = bucket.sweep("--older-than 0s")
    assert (listed.exit_code, listed.stdout.count("expired resumable upload, 25h ago")) == (0, 2)
    assert bucket.store.uploads
    assert young.key not in listed.stdout
    removed = bucket.sweep("--older-than 0s --abort")
    assert (removed.exit_code, removed.stdout.count("removed  expired")) == (0, 2)
    assert set(bucket.store.objects) == {done.key, f"{folders[2]}00000001"}
    assert [key for key, _, _ in bucket.store.uploads.values()] == [young.key]
    assert old.key not in bucket.store.objects


@pytest.mark.parametrize("stray", ["x", "_/x", "_/y/z/x"])
def test_an_object_that_is_no_upload_removes_nothing(service: Service, stray: str) -> None:
    """Above all not the uploads beside it."""
    bucket = Bucket(service)
    bucket.store.run(upload_state.put(f"in/.tus/{stray}", (b"stray",)))
    bucket.store.later(90_000)
    bucket.create("young", IDS[2])
    before = set(bucket.store.objects)
    assert "expired" not in bucket.sweep("--abort").stdout
    assert set(bucket.store.objects) == before


def test_the_rest_of_a_check_at_the_start_is_removed(service: Service) -> None:
    """The store may fail before its last call."""
    bucket = Bucket(service)

    def down(operation: str) -> bool:
        if operation == "delete_object":
            raise StoreUnavailable("down")
        return False

    bucket.store.break_call = down
    assert bucket.store.run(upload_lock.writes_conditionally(service.settings))
    bucket.store.break_call = lambda _: False
    assert len(bucket.store.objects) == 1
    bucket.store.later(90_000)
    bucket.sweep("--abort")
    assert not bucket.store.objects


def test_an_upload_without_a_record_is_removed(service: Service) -> None:
    """A killed request may leave bytes alone, and another run may remove the record that was listed."""
    bucket = Bucket(service)
    bucket.create("old", IDS[0])
    folder = upload_state.folder_of(service, "", IDS[0])
    record = f"{folder}00000001"
    bucket.store.objects[f"{folder}rest-x"] = bucket.store.objects[record]
    bucket.store.later(90_000)

    def vanish(operation: str) -> bool:
        if operation == "get_object":
            del bucket.store.objects[record]
        return False

    bucket.store.break_call = vanish
    bucket.sweep("--abort")
    assert not bucket.store.objects
    bucket.store.run(upload_state.put(f"{folder}rest-y", (b"y",)))
    bucket.store.later(90_000)
    bucket.sweep("--abort")
    assert not bucket.store.objects


def test_the_command_fails_if_an_upload_cannot_be_removed(service: Service) -> None:
    """The line has the reason."""
    bucket = Bucket(service)
    bucket.create("old", IDS[0])
    bucket.store.later(90_000)

    def down(operation: str) -> bool:
        if operation == "get_object":
            raise StoreUnavailable("S3 is down.")
        return False

    bucket.store.break_call = down
    result = bucket.sweep("--abort")
    assert result.exit_code == 1
    assert "not removed  expired resumable upload" in result.stderr
    assert "S3 is down." in result.stderr
