"""A Swift cluster in one process: `python -m demo.swift_cluster FD FOLDER`.

The proxy with its S3 API listens on the inherited socket. One account, one container and one object server each listen
on their own socket on loopback, where the proxy reaches them as in any cluster; Swift's own functional tests run it in
this way. There is one device and so one replica, no memcached, and no daemon that repairs a lost disk.
"""

import logging
import os
import socket
import sys
import warnings
from pathlib import Path
from typing import Any

warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")  # Swift's choice, not ours

import eventlet  # noqa: E402 - after the filter
import eventlet.wsgi  # noqa: E402
from eventlet.greenio import GreenSocket  # noqa: E402
from swift.common import constraints  # noqa: E402
from swift.common.http_protocol import SwiftHttpProtocol  # noqa: E402
from swift.common.ring import RingBuilder  # noqa: E402
from swift.common.utils import NullLogger, monkey_patch, set_swift_dir  # noqa: E402
from swift.common.wsgi import init_request_processor  # noqa: E402

DEVICE = "disk"

#: S3 limits an object's metadata to 2 KB in all; Swift also limits each value, by default to 256 bytes.
CLUSTER = """
[swift-hash]
swift_hash_path_suffix = handoff
[swift-constraints]
max_meta_value_length = 2048
"""

#: Settings of all four servers. Each timeout is longer than any S3 call: one process does the work of four here, so a
#: busy server must not count as a dead one.
COMMON = """
[DEFAULT]
swift_dir = {folder}
devices = {folder}
mount_check = false
recon_cache_path = {folder}
log_custom_handlers = demo.swift_cluster.log_to_stderr
conn_timeout = 60
node_timeout = 60
"""

#: `origins` are the origins of pages that may send to it. With `cors_preflight_allow_origin` S3's middleware answers
#: preflights; with `cors_allow_origin` the proxy allows the page to read the answer to its PUT.
PROXY = """
[pipeline:main]
pipeline = catch_errors gatekeeper listing_formats s3api tempauth copy slo proxy-server

[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
conn_timeout = 60
node_timeout = 60
error_suppression_interval = 0
cors_allow_origin = {origins}

[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:copy]
use = egg:swift#copy
[filter:slo]
use = egg:swift#slo
max_manifest_segments = 10000

[filter:s3api]
use = egg:swift#s3api
location = {region}
max_upload_part_num = 10000
cors_preflight_allow_origin = {origins}

[filter:tempauth]
use = egg:swift#tempauth
user_{user} = {secret} .admin
"""

#: The object server reports each object to the container server; it would leave this to a daemon after a second.
STORAGE = """
[pipeline:main]
pipeline = {kind}-server

[app:{kind}-server]
use = egg:swift#{kind}
container_update_timeout = 60
"""


def main() -> None:
    """Serve until killed."""
    monkey_patch()
    fd, folder = int(sys.argv[1]), Path(sys.argv[2])
    (folder / DEVICE).mkdir()
    (folder / "swift.conf").write_text(CLUSTER)
    set_swift_dir(str(folder))
    constraints.reload_constraints()
    common = COMMON.format(folder=folder)
    for kind in ("account", "container", "object"):
        listener = eventlet.listen(("127.0.0.1", 0), backlog=1024)
        write_ring(folder / f"{kind}.ring.gz", listener.getsockname()[1])
        path = folder / f"{kind}.conf"
        path.write_text(common + STORAGE.format(kind=kind))
        eventlet.spawn(serve, listener, path, f"{kind}-server")
    path = folder / "proxy.conf"
    user = os.environ["AWS_ACCESS_KEY_ID"].replace(":", "_")
    secret, region = os.environ["AWS_SECRET_ACCESS_KEY"], os.environ["AWS_DEFAULT_REGION"]
    origins = os.environ.get("PAGE_ORIGINS", "")
    path.write_text(common + PROXY.format(user=user, secret=secret, region=region, origins=origins))
    serve(GreenSocket(socket.socket(fileno=fd)), path, "proxy-server")


def write_ring(path: Path, port: int) -> None:
    """Write a ring with one device and one replica."""
    builder = RingBuilder(part_power=0, replicas=1, min_part_hours=0)
    place = {"region": 1, "zone": 1, "ip": "127.0.0.1", "port": port, "device": DEVICE}
    builder.add_dev({**place, "weight": 1.0, "meta": ""})
    builder.rebalance()
    builder.get_ring().save(str(path))


def serve(listener: Any, conf_path: Path, section: str) -> None:
    """Serve one of Swift's apps with the settings of `swift.common.wsgi.run_server`, which cannot run twice."""
    app, *_ = init_request_processor(str(conf_path), section)
    warnings.filterwarnings("ignore", message="capitalize_response_headers is disabled")
    eventlet.wsgi.server(
        listener,
        app,
        NullLogger(),
        protocol=SwiftHttpProtocol,
        socket_timeout=60,
        capitalize_response_headers=False,
        url_length_limit=constraints.MAX_REQUEST_LINE,
    )


def log_to_stderr(*arguments: Any) -> None:
    """Make Swift's logger print warnings and errors instead of sending them to syslog.

    Swift calls this hook.
    """
    logger: logging.Logger = arguments[5]
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.addHandler(logging.StreamHandler())
    logger.setLevel(logging.WARNING)


if __name__ == "__main__":
    main()
