"""The systemd units that `deploy/` ships."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from demo.processes import ROOT

ANALYZE = shutil.which("systemd-analyze")
#: The highest exposure that `systemd-analyze security` may find, of 100; a service without restrictions has 96.
MOST_EXPOSURE = 20

pytestmark = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is missing: apt-get install systemd")
each_unit = pytest.mark.parametrize("unit", sorted(path.name for path in (ROOT / "deploy").glob("*.service")))


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze."""
    assert ANALYZE is not None
    return subprocess.run([ANALYZE, *arguments], capture_output=True, text=True, check=False)  # noqa: S603 - our own files


@each_unit
def test_a_unit_is_valid(unit: str, tmp_path: Path) -> None:
    """Systemd knows each line; the program is this environment's, because the shipped path is not here."""
    text = (ROOT / "deploy" / unit).read_text("utf-8")
    copy = tmp_path / unit
    copy.write_text(text.replace("/opt/filehandoff/.venv/bin/", f"{Path(sys.executable).parent}/"))
    ended = analyze("verify", "--man=no", str(copy))
    assert (ended.returncode, ended.stderr) == (0, "")


@each_unit
def test_a_unit_lets_the_service_do_little(unit: str) -> None:
    """The exposure stays low."""
    ended = analyze("security", "--offline=true", f"--threshold={MOST_EXPOSURE}", str(ROOT / "deploy" / unit))
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr


def test_the_units_differ_in_the_service_alone() -> None:
    """Both services have the same restrictions."""
    flask, quart = ((ROOT / f"deploy/upload-{name}.service").read_text("utf-8") for name in ("flask", "quart"))
    differing = [pair for pair in zip(flask.splitlines(), quart.splitlines(), strict=True) if pair[0] != pair[1]]
    assert [one.partition("=")[0] for one, _ in differing if "=" in one] == ["Description", "ExecStart"]
