"""`make serve`: the store and both apps, until Ctrl-C or SIGTERM, or until one of them dies."""

import os
import signal
import sys
import time
from typing import NoReturn

from demo.processes import StartError
from demo.stack import Stack, running

WATCH_SECONDS = 0.2


def main() -> None:
    """Serve; exit status 0 when asked to end, 1 when something did not start or died."""
    signal.signal(signal.SIGTERM, _end)
    try:
        ports = {name: _port(f"{name.upper()}_PORT", default) for name, default in (("flask", 8001), ("quart", 8002))}
        with running({}, ports=ports) as stack:
            _say_ready(stack)
            while (dead := stack.dead()) is None:
                time.sleep(WATCH_SECONDS)
            _end_with(f"{dead.name} died ({dead.returncode}); ending the others")
    except StartError as error:
        _end_with(str(error))
    except KeyboardInterrupt:
        print("All ended.")


def _say_ready(stack: Stack) -> None:
    width = max(len(name) for name in stack.apps)
    print(f"\nReady. S3 ({stack.store.name}) at {stack.store.endpoint_url}, bucket '{stack.settings.bucket}'.")
    for name, app in stack.apps.items():
        print(f"  {name:{width}}  {app.url}")
    url = stack.apps["flask"].url
    print(f"Try: curl -F file=@README.md '{url}/uploads/temp_file?hook=bound'\nCtrl-C ends all of them.\n", flush=True)


def _port(variable: str, default: int) -> int:
    text = os.environ.get(variable) or str(default)
    if not text.isdecimal() or int(text) > 65535:  # noqa: PLR2004 - the largest port
        raise StartError(f"{variable} is '{text}'; it must be a port number, or 0 for any free one")
    return int(text)


def _end(*_signal: object) -> NoReturn:
    raise KeyboardInterrupt


def _end_with(message: str) -> NoReturn:
    sys.exit(f"serve: {message}")


if __name__ == "__main__":
    main()
