"""The files of containers, read without an engine: what one was found to trip over."""

import json
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from packaging.specifiers import SpecifierSet

from riverrun.cli.main import app

TOP = Path(__file__).parents[2]
FOLDER = TOP / "streaming" / "deploy"
ROOMS = {"cli", "kernels", "recipes", "speech", "streaming"}
KNOWN = {"FROM", "ARG", "ENV", "RUN", "WORKDIR", "COPY", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"}


@pytest.fixture(scope="module")
def steps() -> list[tuple[str, str]]:
    """Instructions of the container file with their arguments."""
    text = (FOLDER / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(name, rest) for name, rest in (line.split(maxsplit=1) for line in lines)]


@pytest.fixture(scope="module")
def image(steps: list[tuple[str, str]]) -> dict[str, str]:
    """The last of each instruction, which are those of the image."""
    return dict(steps)


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    compose: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    assert compose["name"] == "riverrun" and set(compose["secrets"]) == {"tokens"}
    services: dict[str, Any] = compose["services"]
    return services


def copied(steps: list[tuple[str, str]]) -> set[str]:
    """What goes from the repository into a stage."""
    return {part for name, rest in steps if name == "COPY" and "--from" not in rest for part in rest.split()[:-1]}


def test_commands_are_those_of_the_server(image: dict[str, str], services: dict[str, Any]) -> None:
    command = typer.main.get_command(app)
    options = {option for parameter in command.commands["serve"].params for option in parameter.opts}  # type: ignore[attr-defined]
    for arguments in (json.loads(image["CMD"]), services["riverrun"]["command"]):
        assert json.loads(image["ENTRYPOINT"]) == ["riverrun", "serve"] and {a for a in arguments if a.startswith("--")} <= options


def test_the_stages_copy_what_is_there_and_the_context_holds_nothing_else(steps: list[tuple[str, str]]) -> None:
    assert {name for name, _ in steps} == KNOWN
    sources = copied(steps)
    assert sources >= ROOMS and all((TOP / source).exists() for source in sources)
    patterns = [line for line in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines() if not line.startswith("#")]
    allowed = {pattern[1:] for pattern in patterns if pattern.startswith("!")}
    assert patterns[0] == "*" and allowed == sources
    assert {"**/__pycache__", "streaming/deploy/tokens"} <= set(patterns[len(allowed) + 1 :])  # behind what would let them in again


def test_what_is_needed_is_told_by_the_first_part_of_pyproject(steps: list[tuple[str, str]]) -> None:
    """The tables of tools, which name the sources, are cut off for a project without any."""
    whole = (TOP / "pyproject.toml").read_text()
    (cut,) = re.findall(r"sed '/(\S+)/,\$d' whole\.toml", " ".join(rest for name, rest in steps if name == "RUN"))
    part = tomllib.loads(re.split(cut, whole, maxsplit=1, flags=re.MULTILINE)[0])
    assert part == {key: value for key, value in tomllib.loads(whole).items() if key != "tool"}
    project = part["project"]
    (files,) = (rest.split("touch ")[1].split(" &&")[0].split() for _, rest in steps if "touch " in rest)
    assert set(files) == {project["readme"], *project["license-files"]}
    defaults = dict(rest.split("=", 1) for name, rest in steps if name == "ARG" and "=" in rest)
    assert set(defaults["EXTRAS"].split(",")) <= set(project["optional-dependencies"])
    assert SpecifierSet(project["requires-python"]).contains(defaults["PYTHON"])


def test_secrets_of_the_build_stay_out_of_the_image(steps: list[tuple[str, str]]) -> None:
    """Arguments of the last stage, and what its commands say, can be read in the image's history."""
    last = max(i for i, (name, _) in enumerate(steps) if name == "FROM")
    assert not [rest for name, rest in steps[last:] if name == "ARG" and "PIP" in rest or "type=secret" in rest]


def test_it_runs_without_rights_and_writes_to_tmp_only(image: dict[str, str], services: dict[str, Any]) -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", image["USER"])  # an orchestrator can tell that it is not root by a number only
    assert "HOME=/tmp" in image["ENV"].split() and image["WORKDIR"] == "/tmp"
    for service in services.values():
        assert service["read_only"] and service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"]
    assert [mount.split(":")[0] for mount in services["riverrun"]["tmpfs"]] == ["/tmp"]
    assert services["redis"]["user"] == "redis"


def test_compose_builds_starts_and_ends_the_server(services: dict[str, Any]) -> None:
    ours, redis = services["riverrun"], services["redis"]
    assert (FOLDER / ours["build"]["context"]).resolve() == TOP and (TOP / ours["build"]["dockerfile"]).is_file()
    assert ours["depends_on"]["redis"]["condition"] == "service_healthy" and "healthcheck" in redis
    assert ours["init"]  # else SIGTERM goes unheard until uvicorn listens for it
    command = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    (drain,) = (parameter.default for parameter in command.params if parameter.name == "drain")
    assert int(ours["stop_grace_period"].removesuffix("s")) > drain
    assert ours["restart"] == redis["restart"] == "unless-stopped"


@pytest.fixture
def health() -> Iterator[tuple[int, list[int]]]:
    """A port, and the statuses that it answers with."""
    statuses: list[int] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(statuses.pop(0) if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port, statuses
        server.shutdown()
        thread.join()


def test_the_health_check(image: dict[str, str], health: tuple[int, list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    """It tells the truth, and asks no proxy, which an engine may set for all of its containers."""
    port, statuses = health
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    program, *arguments = json.loads(image["HEALTHCHECK"].split("CMD ", 1)[1])
    assert program == "python" and image["EXPOSE"] == "8000" and "8000" in arguments[-1]
    for status, told in ((200, 0), (503, 1)):
        statuses.append(status)
        command = [sys.executable, *(a.replace("8000", str(port)) for a in arguments)]
        assert subprocess.run(command, stderr=subprocess.DEVNULL, timeout=30).returncode == told
