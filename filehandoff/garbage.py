"""The garbage collector of a process that serves."""

import gc


def spare_the_start() -> None:
    """Let all later collections pass over the objects of the start; a server calls this once, after its start.

    These objects are some 144,000, most of them boto's, and stay. A full collection that looks at them stops every
    request of the process for 80 ms.
    """
    gc.freeze()
