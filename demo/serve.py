"""`make serve`: run the store and both apps until a signal or a server's death."""

import os
import signal
import sys
import time
from typing import NoReturn

from demo.processes import StartError, port_from
from demo.stack import Stack, running

WATCH_SECONDS = 0.2
PORTS = {"flask": 8001, "quart": 8002}


def main() -> None:
    """Serve until a signal.

    Exit with 1 if a server does not start or dies.
    """
    signal.signal(signal.SIGTERM, _end)
    try:
        ports = {name: port_from(os.environ, f"{name.upper()}_PORT", default) for name, default in PORTS.items()}
        with running({}, ports=ports) as stack:
            _print_ready(stack)
            while (dead := stack.dead()) is None:
                time.sleep(WATCH_SECONDS)
            _end_with(f"{dead.name} died ({dead.returncode}); ending the others")
    except StartError as error:
        _end_with(str(error))
    except KeyboardInterrupt:
        print("All ended.")


def _print_ready(stack: Stack) -> None:
    width = max(len(name) for name in stack.apps)
    print(f"\nReady. S3 ({stack.store.name}) at {stack.store.endpoint_url}, bucket '{stack.settings.bucket}'.")
    for name, app in stack.apps.items():
        print(f"  {name:{width}}  {app.url}")
    url = stack.apps["flask"].url
    print("Open either in a browser, or try the API:")
    print(f"  curl -F file=@README.md '{url}/uploads/temp_file?hook=bound'\nCtrl-C ends all of them.\n", flush=True)


def _end(*_signal: object) -> NoReturn:
    raise KeyboardInterrupt


def _end_with(message: str) -> NoReturn:
    sys.exit(f"serve: {message}")


if __name__ == "__main__":
    main()
