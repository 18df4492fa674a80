"""Run inputs through a target without a fuzzer: `python -m fuzz.replay TARGET FILE …`."""

import sys
from pathlib import Path

from fuzz.catalogue import load

if __name__ == "__main__":
    name, *files = sys.argv[1:]
    for file in files:
        load(name).check(Path(file).read_bytes())
