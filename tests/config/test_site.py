from __future__ import annotations

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from accounts.models import User
from tests.conftest import Site, client_for


def test_the_health_check_names_the_versions(site: Site) -> None:
    answer = httpx.get(f"{site.url}/healthz")
    assert answer.status_code == 200
    assert answer.json()["status"] == "ok"
    assert set(answer.json()["versions"]) == {"prefloop", "django", "postgresql"}
    assert len(answer.headers["X-Request-ID"]) == 32


def test_a_websocket_from_another_site_is_refused(site: Site, annotator: User) -> None:
    cookie = f"sessionid={client_for(annotator).cookies['sessionid'].value}"
    with pytest.raises(InvalidStatus, match="403"):
        connect(
            f"{site.ws_url}/ws/nowhere", origin=Origin("http://evil.example"), additional_headers={"Cookie": cookie}
        )


def test_an_unknown_websocket_path_is_closed_with_404(site: Site) -> None:
    with connect(f"{site.ws_url}/ws/nowhere", origin=Origin(site.url)) as socket:
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=10)
        assert socket.close_code == 4404
