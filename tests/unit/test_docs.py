"""The README's table of settings says what the code says.

A row is one setting: its variable, its default as one would write it into the environment, what it is for:
| `UPLOAD_PART_BYTES` | 8 MiB | … |
"""

import re
from dataclasses import fields
from pathlib import Path

import pytest

import handoff
from handoff.settings import Settings, variable

README = Path(handoff.__file__).parent.parent / "README.md"
ROW = re.compile(r"^\|\s*`(UPLOAD_\w+)`\s*\|\s*([^|]*?)\s*\|\s*([^|]*?)\s*\|", re.MULTILINE)

#: How a default is written that no environment variable could hold, by its field.
WORDS = {
    "s3_endpoint_url": "none (AWS)",
    "key_prefix": "empty",
    "max_body_bytes": "file + 1 MiB",
}


def rows() -> list[tuple[str, str, str]]:
    """Variable, default and purpose of each row."""
    return ROW.findall(README.read_text("utf-8"))


def test_every_setting_is_documented_once() -> None:
    """The table has a row for each setting and for nothing else."""
    documented = [name for name, _, _ in rows()]
    assert sorted(documented) == sorted(variable(field.name) for field in fields(Settings))


@pytest.mark.parametrize("name", [field.name for field in fields(Settings)])
def test_the_documented_default_is_the_default(name: str) -> None:
    """A default can be copied from the table into the environment, or is in words, and is the code's own."""
    defaults = {variable: default.strip("`") for variable, default, _ in rows()}
    default = defaults[variable(name)]
    if name in WORDS:
        assert default == WORDS[name]
    else:
        assert default
        assert Settings.from_env({variable(name): default}) == Settings()


def test_every_setting_has_a_purpose() -> None:
    """No row of the table is without words on what the setting is for."""
    assert [name for name, _, purpose in rows() if not purpose] == []
