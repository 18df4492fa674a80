"""Run one target under atheris: `python -m fuzz.one TARGET [an option of libFuzzer …] [a folder of inputs …]`."""

import sys

import atheris
from fuzz.catalogue import load


def main() -> None:
    """Instrument the core, then run the target until libFuzzer ends the process."""
    name, *arguments = sys.argv[1:]
    with atheris.instrument_imports(include=["filehandoff"]):
        target = load(name)
    atheris.Setup([name, *arguments], target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
