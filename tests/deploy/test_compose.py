"""The compose file and the Dockerfile, against the Compose Specification and against the code they start.

No Docker engine is needed, and none runs here: these tests do not show that the images build or that the containers
start. `compose-spec.json` is the schema of the Compose Specification (Apache-2.0), from the npm package dclint 3.1.0.
"""

import json
import re
import stat
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from clew_lab.catalogue.roles import ROLES
from clew_lab.settings import Settings
from clew_worker.fleet import parse

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
ONE_SHOT = {"migrate", "bucket"}
OURS = {name for name, service in SERVICES.items() if "build" in service}
MAY_HAVE_DEFAULT = {
    "CLEW_PORT",
    "CLEW_MODELS",
    "CLEW_CODE_VERSION",
    "CLEW_S3_PUBLIC_URL",
    "CLEW_TRUSTED_PROXIES",
    "CLEW_GPUS",
    "TORCH_INDEX",
}
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(:\?|:-|)")
VARIABLE_WITH_DEFAULT = re.compile(r"\$\{\w+:-([^}]*)\}")
SECRET = re.compile(r"PASSWORD|SECRET|_KEY|AUTH|MINIO_ROOT_USER")


def test_the_file_follows_the_compose_specification() -> None:
    schema = json.loads((Path(__file__).parent / "compose-spec.json").read_text())
    validator = jsonschema.Draft7Validator(schema)
    errors = [f"{'/'.join(map(str, error.path))}: {error.message}" for error in validator.iter_errors(COMPOSE)]
    assert errors == []
    broken = COMPOSE | {"services": SERVICES | {"api": SERVICES["api"] | {"helthcheck": {}}}}
    assert not validator.is_valid(broken), "a schema that lets a typing mistake pass proves nothing"


def test_the_whole_lab_is_there() -> None:
    assert {"api", "scheduler", "worker-train", "worker-circuits", "postgres", "redis", "minio"} <= SERVICES.keys()
    for pool in ("train", "circuits"):
        assert SERVICES[f"worker-{pool}-gpu"]["profiles"] == ["gpu"]
        assert SERVICES[f"worker-{pool}"]["profiles"] == ["cpu"]
    assert not [name for name, service in SERVICES.items() if "profiles" in service and name not in workers()]


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_is_watched_or_ends(name: str) -> None:
    service = SERVICES[name]
    if name in ONE_SHOT:
        assert service["healthcheck"] == {"disable": True}
        assert service["restart"] == "no"
    else:
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
        assert service["restart"] == "unless-stopped"
    for needed, how in service.get("depends_on", {}).items():
        expected = "service_completed_successfully" if needed in ONE_SHOT else "service_healthy"
        assert how["condition"] == expected, f"{name} on {needed}"


@pytest.mark.parametrize("name", ["api", "scheduler", "worker-train", "worker-circuits"])
def test_ours_start_after_what_they_need(name: str) -> None:
    assert {"postgres", "redis", "migrate", "bucket"} <= SERVICES[name]["depends_on"].keys()


def test_no_secret_has_a_default() -> None:
    for name, operator in VARIABLE.findall(TEXT):
        assert operator == ":?" or name in MAY_HAVE_DEFAULT, f"${{{name}}} must be required"
        assert not (operator != ":?" and SECRET.search(name)), name
    for service, key, value in environments():
        if SECRET.search(key) or ("://" in value and "@" in value):
            assert VARIABLE.findall(value), f"{service}: {key} is written out"
            rest = re.sub(r"\$\{\w+:\?[^}]*\}", "", value)
            assert not re.search(r"password|secret|:[^/@:\s]+@", rest), f"{service}: {key} holds more than its variable"


def test_each_process_has_its_own_role() -> None:
    for name in OURS:
        environ = SERVICES[name]["environment"]
        role = "worker" if name in workers() else name
        user, password = re.findall(r"//(\w+):\$\{(\w+):\?", environ["CLEW_DATABASE_URL"])[0]
        others = {key for key in environ if key.startswith("CLEW_DB_PASSWORD")}
        if role == "migrate":
            assert (user, password) == ("clew", "CLEW_DB_PASSWORD")
            assert others == {f"CLEW_DB_PASSWORD_{role.upper()}" for role in ROLES}
        else:
            assert role in ROLES
            assert (user, password) == (f"clew_{role}", f"CLEW_DB_PASSWORD_{role.upper()}")
            assert others == set(), f"{name} knows the password of another"


def test_one_command_writes_what_the_file_asks_for(tmp_path: Path) -> None:
    path = tmp_path / ".env"

    def run(*words: str) -> int:
        command = [sys.executable, str(ROOT / "deploy" / "env.py"), "--file", str(path), *words]
        return subprocess.run(command, check=False, capture_output=True).returncode

    assert run("--profile", "gpu", "--host", "lab.example", "--bind", "192.0.2.10") == 0
    written = dict(line.split("=", 1) for line in path.read_text().splitlines())
    assert {name for name, operator in VARIABLE.findall(TEXT) if operator == ":?"} <= written.keys()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (written["COMPOSE_PROFILES"], written["CLEW_HOST"]) == ("gpu", "lab.example")
    secrets = [value for name, value in written.items() if SECRET.search(name) or "TOKEN" in name]
    assert len(set(secrets)) == len(secrets) == 9
    assert all(re.fullmatch(r"[0-9a-f]{64}", value) for value in secrets)
    before = path.read_text()
    assert run() == 1
    assert path.read_text() == before
    path.write_text("# mine\nCLEW_SECRET_KEY=kept\n")
    assert run("--add") == 0
    lines = path.read_text().splitlines()
    assert lines[:2] == ["# mine", "CLEW_SECRET_KEY=kept"]
    assert {line.partition("=")[0] for line in lines[2:]} == written.keys() - {"CLEW_SECRET_KEY", "TORCH_INDEX"}
    assert [file.name for file in tmp_path.iterdir()] == [".env"]


def test_images_are_pinned() -> None:
    for name, service in SERVICES.items():
        if name in OURS:
            assert service["image"].endswith(":local"), f"{name}: what is built here must not be looked for elsewhere"
        else:
            _, tag = service["image"].rsplit(":", 1)
            assert re.search(r"\d+[.\-]\d+", tag), f"{name}: {tag} moves"
    for line in re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE):
        assert line in stages() or re.search(r":\d+\.\d+", line), f"{line} moves"


def test_valkey_is_named_as_upstream_names_its_images() -> None:
    """`valkey-io/valkey-container` builds 9.x on Debian trixie and on Alpine: no tag of it ends in an older Debian.

    Its names were read there; no image was pulled.
    """
    assert re.fullmatch(r"valkey/valkey:9\.\d+\.\d+(-trixie|-alpine[\d.]*)?", SERVICES["redis"]["image"])


def test_links_lead_to_the_port_that_is_open() -> None:
    """For browsers by CLEW_HOST, which has no default that CLEW_BIND could disagree with; for workers inside."""
    for name in ("api", "minio"):
        (port,) = SERVICES[name]["ports"]
        assert re.match(r"\$\{CLEW_BIND:\?[^}]+\}:", port), name
    published = SERVICES["minio"]["ports"][0].rsplit(":", 2)[1:]
    assert published == ["9000", "9000"]
    assert re.search(r"http://\$\{CLEW_HOST:\?[^}]+\}:9000\}$", SERVICES["api"]["environment"]["CLEW_S3_PUBLIC_URL"])
    for name in workers():
        environ = SERVICES[name]["environment"]
        assert environ["CLEW_S3_PUBLIC_URL"] == f"http://{environ['CLEW_S3_ENDPOINT']}", name


def test_each_worker_has_a_name_of_its_own_and_is_asked_by_it() -> None:
    names = set()
    for service in workers():
        words = [VARIABLE_WITH_DEFAULT.sub(r"\1", word) for word in SERVICES[service]["command"][3:]]
        (given,) = parse(words)
        kind = "workers" if "--gpus" in words else "worker"
        assert SERVICES[service]["healthcheck"]["test"] == ["CMD", "python", "/srv/health.py", kind, given.name]
        assert "--name" in SERVICES[service]["command"], "a container's hostname is another after each start"
        names.add(given.name)
    assert len(names) == len(workers()) == 4


def test_a_stopped_worker_has_time_for_its_checkpoint() -> None:
    grace = Settings.model_fields["checkpoint_grace_s"].default + Settings.model_fields["kill_grace_s"].default
    for name in workers():
        assert int(SERVICES[name]["stop_grace_period"].removesuffix("s")) > grace, name


def test_the_readme_tells_every_variable() -> None:
    told = set(re.findall(r"`([A-Z][A-Z0-9_]+)`", (ROOT / "deploy" / "README.md").read_text()))
    asked = {name for name, _ in VARIABLE.findall(TEXT)}
    assert asked <= told
    assert "`deploy/README.md`" in (ROOT / "README.md").read_text()


def test_targets_exist_and_end_as_an_ordinary_user() -> None:
    targets = {service["build"]["target"] for service in SERVICES.values() if "build" in service}
    assert targets == {"api", "scheduler", "worker"}
    for target in targets:
        users = re.findall(r"^USER (\S+)", stages()[target], re.MULTILINE)
        assert users == ["clew"], target
    for name in OURS:
        service = SERVICES[name]
        assert service["cap_drop"] == ["ALL"], name
        assert service["read_only"] is True, name
        assert service["build"]["dockerfile"] == "deploy/Dockerfile", name


def test_what_is_copied_is_there_and_reaches_the_build() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*", "nothing enters a build that is not named"
    let_in = [line[1:] for line in lines if line.startswith("!")]
    kept_out = [line for line in lines[1:] if not line.startswith("!")]
    assert any(fnmatch("deploy/.env", pattern) for pattern in kept_out)
    copied = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
    assert copied
    for source in (word for line in copied for word in line.split()[:-1]):
        assert (ROOT / source).exists(), source
        assert any(source == path or source.startswith(path + "/") for path in let_in), f"{source} is kept out"


def test_variables_are_settings() -> None:
    fields = Settings.model_fields
    known = {f"CLEW_{name.upper()}" for name in fields}
    built_in = set(re.findall(r"\b(CLEW_[A-Z0-9_]+)=", DOCKERFILE))
    for service, key, _ in environments():
        if key.startswith("CLEW_"):
            assert key in known, f"{service}: {key} is no setting"
    assert built_in <= known
    proxies = SERVICES["api"]["environment"]["CLEW_TRUSTED_PROXIES"]
    assert proxies == f"${{CLEW_TRUSTED_PROXIES:-{fields['trusted_proxies'].default}}}"
    required = {f"CLEW_{name.upper()}" for name, field in fields.items() if field.is_required()}
    for name in OURS:
        assert required <= SERVICES[name]["environment"].keys(), name


def test_what_is_started_exists() -> None:
    for name in OURS:
        command = SERVICES[name]["command"]
        assert command[:2] == ["python", "-m"], name
        package = find_spec(command[2])
        assert package is not None, command
        if package.submodule_search_locations is not None:
            assert find_spec(command[2] + ".__main__") is not None, command
    default = re.findall(r'^CMD \["python", "-m", "(\w+)"', DOCKERFILE, re.MULTILINE)
    assert default == ["clew_api", "clew_scheduler", "clew_worker"]


def test_only_workers_install_torch() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

    def packages(extra: str) -> set[str]:
        found: set[str] = set()
        for requirement in extras[extra]:
            if more := re.match(r"clew\[([\w,]+)\]", requirement):
                found |= set().union(*map(packages, more.group(1).split(",")))
            else:
                found.add(re.split(r"[\[<>=~! ]", requirement)[0])
        return found

    for target in ("api", "scheduler", "worker"):
        assert re.search(rf'"clew\[{target}(,\w+)*\] @', stages()[target]), target
        assert ("torch" in packages(target)) == (target == "worker"), target


def workers() -> list[str]:
    return [name for name, service in SERVICES.items() if "clew_worker" in service.get("command", [])]


def environments() -> list[tuple[str, str, str]]:
    """(service, variable, value as written) of all services."""
    return [
        (name, key, str(value))
        for name, service in SERVICES.items()
        for key, value in service.get("environment", {}).items()
    ]


def stages() -> dict[str, str]:
    """The text of each stage of the Dockerfile by its name."""
    parts = re.split(r"^FROM \S+ AS (\w+)$", DOCKERFILE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))
