"""Make threads switch every microsecond in each app of the suite, so that races show.

With Python's default of 5 ms, a hook registered per request on the shared client passes 50 concurrent uploads. With
this setting, it stamps a wrong request id on some of them in most runs.
"""

import sys

sys.setswitchinterval(1e-6)
