"""The core of `sweep-uploads`: it selects this app's old uploads, and reports them."""

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filehandoff.errors import StoreUnavailable
from filehandoff.keys import is_key, new_key
from filehandoff.settings import Settings
from filehandoff.sweep import DEFAULT_AGE, Age, Sweep, Unfinished, choose, reason, show_age

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
DAY = Age.parse("24h")
KEY = "2026/11/21/01a206a2-f2c4-7313-a824-4681caf514d0/a.bin"
SETTINGS = Settings(bucket="photos", key_prefix="incoming/")

spans = st.integers(0, 10**9 - 1).map(lambda seconds: timedelta(seconds=seconds))
keys = st.sampled_from(["", "incoming/", "other/"]).map(lambda prefix: new_key(prefix, "a.bin")) | st.sampled_from(
    ["incoming/report.pdf", "a.bin", f"incoming/{KEY}/b"]
)
uploads = st.builds(
    Unfinished,
    keys,
    st.text("abc", min_size=1, max_size=3),
    st.integers(-5, 10**6).map(lambda s: NOW - timedelta(0, s)),
)


def upload(age: timedelta, key: str = f"incoming/{KEY}", upload_id: str = "id") -> Unfinished:
    """Make an unfinished upload of this age."""
    return Unfinished(key, upload_id, NOW - age)


def swept(*found: Unfinished, older_than: Age = DAY) -> Sweep:
    """Select from these uploads."""
    return choose(SETTINGS, found, older_than, NOW)


@pytest.mark.parametrize(
    ("text", "span"),
    [
        pytest.param("0s", timedelta(0), id="zero"),
        pytest.param("90s", timedelta(seconds=90), id="seconds"),
        pytest.param("30m", timedelta(minutes=30), id="minutes"),
        pytest.param("24h", timedelta(hours=24), id="hours"),
        pytest.param("7d", timedelta(days=7), id="days"),
        pytest.param(" 7 d ", timedelta(days=7), id="spaces"),
        pytest.param("999999999d", timedelta(days=999_999_999), id="Python's longest"),
    ],
)
def test_an_age_is_a_number_and_its_unit(text: str, span: timedelta) -> None:
    """The span is the written number of units, and the text keeps the operator's unit."""
    age = Age.parse(text)
    assert age.span == span
    assert age.text == text.replace(" ", "")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("24", id="no unit"),
        pytest.param("h", id="no number"),
        pytest.param("1.5h", id="a fraction"),
        pytest.param("-1h", id="negative"),
        pytest.param("3w", id="an unknown unit"),
        pytest.param("24H", id="upper case, as M could be months"),
        pytest.param("1d12h", id="two units"),
        pytest.param("\u0662h", id="a digit of another script"),
        pytest.param("1000000000d", id="more than Python's longest"),
    ],
)
def test_an_invalid_age_is_rejected(text: str) -> None:
    """The message is one line with the quoted text and valid examples."""
    with pytest.raises(
        ValueError, match=r"is no age; write a whole number and its unit, such as 90s, 30m, 24h or 7d$"
    ) as error:
        Age.parse(text)
    assert str(error.value).startswith(repr(text))
    assert "\n" not in str(error.value)


def test_the_default_is_a_day() -> None:
    """Without an age, the command ignores uploads that may still run."""
    assert Age.parse(DEFAULT_AGE).span == timedelta(days=1)


@pytest.mark.parametrize(
    ("span", "shown"),
    [
        pytest.param(timedelta(0), "0s", id="zero"),
        pytest.param(timedelta(seconds=119.9), "119s", id="just below two minutes"),
        pytest.param(timedelta(minutes=2), "2m", id="two minutes"),
        pytest.param(timedelta(minutes=119, seconds=59), "119m", id="just below two hours"),
        pytest.param(timedelta(hours=2), "2h", id="two hours"),
        pytest.param(timedelta(hours=47, minutes=59), "47h", id="just below two days"),
        pytest.param(timedelta(days=2), "2d", id="two days"),
        pytest.param(timedelta(days=400, hours=23), "400d", id="more than a year"),
    ],
)
def test_an_age_is_shown_in_one_unit(span: timedelta, shown: str) -> None:
    """The unit is the largest with at least two, so rounding cuts less than half."""
    assert show_age(span) == shown


@given(spans, st.integers(0, 999_999))
def test_a_shown_age_selects_the_upload_it_was_shown_for(span: timedelta, microseconds: int) -> None:
    """The shown age, as --older-than, selects the upload, and exceeds half its age."""
    began = upload(span + timedelta(microseconds=microseconds))
    shown = Age.parse(show_age(began.age(NOW)))
    assert swept(began, older_than=shown).uploads == [began]
    assert span < 2 * shown.span or span == timedelta(0)


@given(st.lists(uploads, max_size=20), st.integers(0, 10**6).map(lambda seconds: Age.parse(f"{seconds}s")))
def test_only_old_uploads_of_this_app_are_selected(found: list[Unfinished], older_than: Age) -> None:
    """Each upload of this app is selected, oldest first, or counted as younger."""
    sweep = choose(SETTINGS, found, older_than, NOW)
    ours = [each for each in found if is_key("incoming/", each.key)]
    old = [each for each in ours if NOW - each.began >= older_than.span or older_than.span == timedelta(0)]
    assert sorted(sweep.uploads, key=found.index) == sorted(old, key=found.index)
    assert [each.began for each in sweep.uploads] == sorted(each.began for each in old)
    assert sweep.younger == len(ours) - len(old)


@pytest.mark.parametrize(
    ("key", "chosen"),
    [
        pytest.param(f"incoming/{KEY}", True, id="ours"),
        pytest.param(KEY, False, id="no prefix"),
        pytest.param(f"incoming/more/{KEY}", False, id="a longer prefix"),
        pytest.param("incoming/report.pdf", False, id="another program's below our prefix"),
    ],
)
def test_a_foreign_upload_is_never_selected(key: str, *, chosen: bool) -> None:
    """An upload with a key of another form is neither selected nor counted."""
    sweep = swept(upload(timedelta(days=400), key))
    assert [each.key for each in sweep.uploads] == [key] * chosen
    assert sweep.younger == 0


@pytest.mark.parametrize(
    ("age", "chosen"),
    [
        pytest.param(timedelta(hours=24), True, id="exactly as old"),
        pytest.param(timedelta(hours=24) - timedelta(microseconds=1), False, id="a microsecond too young"),
    ],
)
def test_an_upload_of_exactly_the_age_is_selected(age: timedelta, *, chosen: bool) -> None:
    """The given age is the minimum."""
    sweep = swept(upload(age))
    assert (len(sweep.uploads), sweep.younger) == (chosen, not chosen)


def test_a_clock_of_s3_that_is_ahead_makes_no_negative_age() -> None:
    """An upload that began in the future has the age 0: only `0s` selects it."""
    future = upload(timedelta(seconds=-30))
    assert swept(future, older_than=Age.parse("0s")).uploads == [future]
    assert swept(future, older_than=Age.parse("1s")).younger == 1
    assert ", 0s ago " in swept(future).line(future)


def test_the_line_of_an_upload_is_in_utc() -> None:
    """The line has the begin in UTC, the age, the key and the id."""
    zone = timezone(timedelta(hours=-5))
    entry = {"Key": KEY, "UploadId": "2~abc", "Initiated": datetime(2026, 11, 21, 20, 15, 2, tzinfo=zone), "Owner": {}}
    unfinished = Unfinished.from_s3(entry)
    sweep = swept(unfinished)
    line = f"2026-11-22 01:15:02 UTC, 34h ago  {KEY}  2~abc"
    assert sweep.line(unfinished) == line
    assert sweep.aborted(unfinished) == f"aborted  {line}"
    assert sweep.failed(unfinished, ValueError("no")) == f"not aborted  {line}: no"


@pytest.mark.parametrize("entry", [{}, {"Initiated": None}])
def test_an_upload_without_a_valid_time_has_the_age_0(entry: dict[str, None]) -> None:
    """A missing time makes the upload too young for every age but `0s`."""
    upload = Unfinished.from_s3({"Key": KEY, "UploadId": "2~abc"} | entry)
    assert upload.age(datetime.now(UTC)) == timedelta(0)


@pytest.mark.parametrize(
    ("old", "younger", "aborted", "expected"),
    [
        pytest.param(
            *(0, 0, None, "No unfinished upload of this app older than 24h in the bucket 'photos' under 'incoming/'."),
            id="nothing",
        ),
        pytest.param(
            *(0, 1, 0, "No unfinished upload … under 'incoming/'; 1 younger one ignored."),
            id="a younger one",
        ),
        pytest.param(
            *(1, 0, None, "1 unfinished upload … under 'incoming/'. "),
            id="one, listed",
        ),
        pytest.param(
            *(3, 2, None, "3 unfinished uploads … under 'incoming/'; 2 younger ones ignored. "),
            id="some, listed",
        ),
        pytest.param(
            *(3, 2, 3, "3 unfinished uploads … under 'incoming/'; 2 younger ones ignored. 3 aborted."),
            id="some, aborted",
        ),
        pytest.param(
            *(3, 0, 1, "3 unfinished uploads … under 'incoming/'. 1 aborted, 2 failed."),
            id="not all aborted",
        ),
    ],
)
def test_the_summary_counts_the_uploads_and_the_aborts(
    old: int, younger: int, aborted: int | None, expected: str
) -> None:
    """The summary names age, bucket and prefix, and without --abort the way to abort."""
    found = [upload(timedelta(days=2))] * old + [upload(timedelta(0))] * younger
    expected = expected.replace("…", "of this app older than 24h in the bucket 'photos'")
    if old and aborted is None:
        expected += "Nothing was changed; run the command with --abort to abort the listed uploads."
    assert swept(*found).summary(aborted) == expected


def test_the_summary_without_a_prefix_names_the_bucket_alone() -> None:
    """Without UPLOAD_KEY_PREFIX, the summary names no prefix."""
    summary = choose(Settings(bucket="photos"), [], Age.parse("7 d"), NOW).summary(0)
    assert summary == "No unfinished upload of this app older than 7d in the bucket 'photos'."


def test_a_reason_is_one_line_from_the_cause() -> None:
    """The reason is boto's message, or without a cause the error's own."""
    error = StoreUnavailable("S3 did not respond. Nothing was stored; try again later.")
    assert reason(error) == "S3 did not respond. Nothing was stored; try again later."
    error.__cause__ = OSError("no route\n  to host")
    assert reason(error) == "no route to host"
    assert re.fullmatch(r"not aborted .* UTC, 0s ago .*: no route to host", swept().failed(upload(timedelta(0)), error))
