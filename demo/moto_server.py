"""moto's S3 on an inherited socket: `python -m demo.moto_server FD`."""

import logging
import signal
import sys
from typing import NoReturn

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server


def main() -> None:
    """Serve until SIGTERM."""
    signal.signal(signal.SIGTERM, _end)
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # no log line per request
    application = DomainDispatcherApplication(create_backend_app)
    make_server("127.0.0.1", 0, application, threaded=True, fd=int(sys.argv[1])).serve_forever()


def _end(*_signal: object) -> NoReturn:
    sys.exit(0)


if __name__ == "__main__":
    main()
