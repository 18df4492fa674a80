"""Loaded by each app that the suite starts: threads take turns every microsecond, so that races come to light.

With Python's own 5 ms, a hook that is registered for each request on the shared client passes 50 uploads at once; with
this it stamps another request's id on some of them in most runs.
"""

import sys

sys.setswitchinterval(1e-6)
