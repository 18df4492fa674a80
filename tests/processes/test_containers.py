"""The image and the compose file that `deploy/` ships.

No test builds or starts them: that needs a container engine and base images.
"""

import json
import re
import tomllib
from typing import Any

import pytest
import yaml

from demo.processes import ROOT
from filehandoff.logs import SECRET_VARIABLES
from filehandoff.s3.cleanup import END_SECONDS
from filehandoff.settings import Settings, variable

CONTAINERFILE = (ROOT / "deploy/Containerfile").read_text("utf-8")
NGINX = (ROOT / "deploy/nginx.conf").read_text("utf-8")
README = (ROOT / "README.md").read_text("utf-8")
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text("utf-8"))["services"]
each_container = pytest.mark.parametrize("name", SERVICES)
each_app = pytest.mark.parametrize("name", ["flask", "quart"])


def documented(program: str) -> list[str]:
    """Return the words of the start command in the README that begins with this program."""
    [command] = re.findall(rf"^({program} .*?) +#", README, re.MULTILINE)
    return str(command).split()


def test_the_image_starts_the_documented_command() -> None:
    """It runs the Flask service, and its comment names the command of the Quart service."""
    [command] = re.findall(r"^CMD (\[.*\])$", CONTAINERFILE, re.MULTILINE)
    assert json.loads(command) == documented("gunicorn") == SERVICES["flask"]["command"]
    assert f"# Quart: {' '.join(documented('python'))}\n" in CONTAINERFILE


def test_the_quart_container_starts_the_documented_command_on_the_proxys_port() -> None:
    """Only the port differs, because both proxies have the same configuration."""
    assert [word.replace(":8001", ":8002") for word in SERVICES["quart"]["command"]] == documented("python")


def test_the_image_is_made_of_one_base_and_runs_without_rights() -> None:
    """The base is an argument, and the last stage has a user that is not root."""
    froms = re.findall(r"^FROM (\S+)", CONTAINERFILE, re.MULTILINE)
    assert set(froms) == {"${BASE}"}
    last = CONTAINERFILE.rpartition("\nFROM ")[2]
    assert re.findall(r"^USER (\d+):(\d+)$", last, re.MULTILINE) == [("10001", "10001")]


def test_the_image_has_extras_that_exist() -> None:
    """Each is one of pyproject.toml; together they have every package that a setting may need."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"].keys()
    [named] = re.findall(r"whl\)\[([a-z,-]+)\]", CONTAINERFILE)
    assert set(named.split(",")) == extras - {"quart", "operate", "fast"}  # these come with the others


def test_the_build_sees_the_files_that_the_package_is_made_of() -> None:
    """`.dockerignore` admits them, and no other file."""
    admitted = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text("utf-8"), re.MULTILINE)
    included = (ROOT / "MANIFEST.in").read_text("utf-8").split()[1:]
    named = {"filehandoff", "flask_app", "quart_app", "pyproject.toml", "requirements.lock", "PACKAGE.md", "LICENSE"}
    assert set(admitted) == named | {"MANIFEST.in", *included}
    assert [name for name in admitted if not (ROOT / name).exists()] == []


def test_nginx_ends_an_idle_connection_before_any_server_does() -> None:
    """If a server ended it just as a request comes, the client would get 502."""
    [seconds] = re.findall(r"^ +keepalive_timeout (\d+)s;", NGINX, re.MULTILINE)
    gunicorn = (ROOT / "flask_app/gunicorn.conf.py").read_text("utf-8")
    [flask] = re.findall(r"^keepalive = (\d+)$", gunicorn, re.MULTILINE)
    hypercorn = tomllib.loads((ROOT / "quart_app/hypercorn.toml").read_text("utf-8"))["keep_alive_timeout"]
    uvicorn = tomllib.loads((ROOT / "quart_app/uvicorn.toml").read_text("utf-8"))["timeout_keep_alive"]
    assert int(seconds) < min(int(flask), hypercorn, uvicorn)


@each_app
def test_a_container_has_settings_that_exist(name: str) -> None:
    """Each variable is a setting or one of AWS, and the service accepts the values."""
    environ = SERVICES[name]["environment"]
    own = {key for key in environ if not key.startswith("AWS_")}
    assert own <= {variable(field) for field in Settings.__dataclass_fields__}
    assert Settings.from_env(environ).bucket in SERVICES["store"]["volumes"][0].rpartition("/")[2]


@each_container
def test_a_container_has_no_secret_in_the_compose_file(name: str) -> None:
    """Secrets come from a file beside it."""
    assert SERVICES[name].get("environment", {}).keys() & {*SECRET_VARIABLES, "AWS_ACCESS_KEY_ID"} == set()


@each_container
def test_a_container_may_do_little(name: str) -> None:
    """Its root is read-only, and it gets no rights but those that nginx needs for its port and its user."""
    container = SERVICES[name]
    assert (container["read_only"], container["cap_drop"]) == (True, ["ALL"])
    assert container["security_opt"] == ["no-new-privileges:true"]
    proxy = name.endswith("-proxy")
    assert container.get("cap_add", []) == (["CHOWN", "SETGID", "SETUID", "NET_BIND_SERVICE"] if proxy else [])
    assert container["healthcheck"]["test"][0] == "CMD"


@each_container
def test_an_image_names_no_registry(name: str) -> None:
    """The engine's own default decides."""
    image = re.sub(r"^\$\{\w+:-(.*)\}$", r"\1", SERVICES[name]["image"])
    assert "." not in image.partition("/")[0].partition(":")[0]


@each_app
def test_the_proxy_reaches_its_service(name: str) -> None:
    """Nginx's upstream is the service's address in their shared network, and the published port is nginx's."""
    app, proxy = SERVICES[name], SERVICES[f"{name}-proxy"]
    assert proxy["network_mode"] == f"service:{name}"
    [upstream] = re.findall(r"upstream \w+ \{\s+server (\S+);", NGINX)
    assert app["command"][app["command"].index("-b") + 1] == upstream
    assert f"http://{upstream}/readyz" in app["healthcheck"]["test"][-1]
    [listened] = re.findall(r"listen (\d+) ssl;", NGINX)
    assert app["ports"][0].split(":")[1] == listened
    port = "" if app["ports"][0].split(":")[0] == "443" else f":{app['ports'][0].split(':')[0]}"
    [host] = re.findall(r"server_name (\S+);", NGINX)
    assert app["environment"]["UPLOAD_PUBLIC_URL"] == f"https://{host}{port}"


@each_app
def test_the_proxy_has_the_certificate_of_its_configuration(name: str) -> None:
    """Both files are mounted where nginx.conf looks for them."""
    mounted = {volume.split(":")[1] for volume in SERVICES[f"{name}-proxy"]["volumes"]}
    assert set(re.findall(r"ssl_certificate(?:_key)? (\S+);", NGINX)) == mounted - {"/etc/nginx/conf.d/default.conf"}


@each_app
def test_a_container_is_killed_after_its_drain(name: str) -> None:
    """The grace period is longer than the service takes."""
    grace = int(SERVICES[name]["stop_grace_period"].removesuffix("s"))
    assert grace > Settings.from_env(SERVICES[name]["environment"]).drain_seconds + END_SECONDS
