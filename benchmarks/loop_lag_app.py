"""The ASGI app that `BENCHMARK_APP` names as `module:app`, wrapped in `LoopLag`."""

import importlib
import os

from benchmarks.loop_lag import LoopLag

_module, _, _name = os.environ["BENCHMARK_APP"].partition(":")
app = LoopLag(getattr(importlib.import_module(_module), _name))
