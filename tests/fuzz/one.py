"""Run one target under atheris: `python -m fuzz.one TARGET [an option of libFuzzer …] [a folder of inputs …]`."""

import shlex
import sys

import atheris
from fuzz.catalogue import load


def main() -> None:
    """Instrument the core, then run the target until libFuzzer ends the process."""
    name, *arguments = sys.argv[1:]
    with atheris.instrument_imports(include=["filehandoff"]):
        target = load(name)
    # libFuzzer runs its first argument again in a shell, to merge inputs
    atheris.Setup([f"{shlex.quote(sys.executable)} -m fuzz.one {name}", *arguments], target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
