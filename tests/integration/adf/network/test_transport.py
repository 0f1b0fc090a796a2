"""`.netrc` is never used, and connections that are not accepted are given up. For proxies see `test_route.py`."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_adf_mi.adf.api import operations
from airflow_adf_mi.adf.auth.credential import ProcessCredential
from airflow_adf_mi.adf.config.settings import PUBLIC_CLOUD, AdfSettings, Identity
from airflow_adf_mi.adf.errors import AdfUnavailableError
from airflow_adf_mi.adf.network.transport import CONNECT_TIMEOUT
from airflow_adf_mi.emulator import Emulator
from tests.support.clients import sender


@pytest.fixture
def _netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "netrc"
    file.write_text("default login somebody password else\n")
    file.chmod(0o600)
    monkeypatch.setenv("NETRC", str(file))


@pytest.mark.usefixtures("_netrc")
@pytest.mark.parametrize("client", ["sync", "async"])
def test_netrc_does_not_replace_the_token(client: str, settings: AdfSettings, emulator: Emulator) -> None:
    assert sender(client, settings)(operations.get_factory(settings.factory()))["name"] == "adf-test"
    assert [record.status for record in emulator.books.requests] == [200]


@pytest.mark.usefixtures("_netrc")
@pytest.mark.parametrize("source", ["imds", "app_service", "cloud_shell"])
def test_netrc_is_not_sent_with_token_requests(
    source: str, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AZURE_POD_IDENTITY_AUTHORITY_HOST")
    for name, value in emulator.identity_environment(source).items():
        monkeypatch.setenv(name, value)
    credential = ProcessCredential(Identity(), PUBLIC_CLOUD.authority_host)
    assert credential.get_token_info(PUBLIC_CLOUD.arm_scope).token


@pytest.mark.parametrize("client", ["sync", "async"])
@pytest.mark.timeout(60)
def test_connection_that_is_not_accepted_is_given_up_within_seconds(
    client: str, make_settings: Callable[..., AdfSettings]
) -> None:
    """By default, azure-core would wait five minutes."""
    assert CONNECT_TIMEOUT < 10
    with contextlib.ExitStack() as open_sockets:
        busy = open_sockets.enter_context(socket.socket())
        busy.bind(("127.0.0.1", 0))
        busy.listen(0)
        # They fill the queue of connections, so that later ones get no answer.
        for _ in range(4):
            waiting = open_sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(busy.getsockname())
        settings = make_settings(arm_endpoint=f"https://127.0.0.1:{busy.getsockname()[1]}")
        with pytest.raises(AdfUnavailableError) as unreachable:
            sender(client, settings)(operations.get_factory(settings.factory()))
    assert unreachable.value.never_sent
