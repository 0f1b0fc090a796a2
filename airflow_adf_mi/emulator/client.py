"""Controls an emulator in another process, through its control interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import httpx

from airflow_adf_mi.emulator.gateway.faults import Fault


class EmulatorClient:
    """A client of the control interface at `identity_endpoint`, which is in the ready file.

    Every method raises `httpx.HTTPError` if no emulator answers, and `ValueError` with the reason if the emulator refuses.
    """

    def __init__(self, identity_endpoint: str) -> None:
        # trust_env=False: requests to the loopback interface must not use a proxy.
        self._http = httpx.Client(base_url=f"{identity_endpoint}/_emulator", trust_env=False, timeout=30)

    def books(self) -> dict[str, list[dict[str, Any]]]:
        """All requests to ARM and for tokens: {"requests": [...], "tokens": [...]}."""
        return self._get("/books")  # type: ignore[no-any-return]  # JSON

    def requests(self, operation: str | None = None, **members: Any) -> list[dict[str, Any]]:
        """The requests to ARM for an operation, with these members."""
        return [
            record
            for record in self.books()["requests"]
            if (operation is None or record["operation"] == operation)
            and all(record[name] == value for name, value in members.items())
        ]

    def count(self, operation: str | None = None, **members: Any) -> int:
        """How many requests to ARM there were for an operation, with these members."""
        return len(self.requests(operation, **members))

    def runs(self, pipeline: str | None = None, **parameters: str) -> list[dict[str, Any]]:
        """The runs of a pipeline with these parameters, as the service shows them and with their activities."""
        return [
            run
            for run in self._get("/runs")
            if (pipeline is None or run["pipelineName"] == pipeline)
            and all(run["parameters"].get(name) == value for name, value in parameters.items())
        ]

    def guesses(self, pipeline: str | None = None) -> list[dict[str, Any]]:
        """The guesses for expressions that the emulator cannot evaluate, in the runs of one pipeline or of all.

        Each guess has the members of `guesses.Guess`. The member `guesses` of each run lists its own.
        """
        return [guess for run in self.runs(pipeline) for guess in run["guesses"]]

    def add_fault(self, operation: str, **members: Any) -> int:
        """Add a scripted fault. Returns its id."""
        return int(self._post("/faults", Fault(operation=operation, **members).to_json())["id"])

    def faults(self) -> list[Fault]:
        return [Fault.from_json(fault) for fault in self._get("/faults")]

    def unconsumed_faults(self) -> list[Fault]:
        """The faults that have not happened as often as they were scripted."""
        return [Fault.from_json(fault) for fault in self._get("/faults/unconsumed")]

    def clear_faults(self) -> None:
        _read(self._http.delete("/faults"))

    def advance(self, seconds: float) -> None:
        self._post("/clock", {"advance": seconds})

    def set_script(self, script: dict[str, Any]) -> None:
        """Replace the script. Raises `ValueError` like `Emulator.set_script` and `Script.from_json`."""
        self._post("/script", script)

    def set_switches(self, **switches: Any) -> None:
        self._post("/switches", switches)

    def deny(self, actions_by_client_id: Mapping[str, Sequence[str]]) -> None:
        """Deny actions to identities. All other actions are allowed, so an empty mapping restores all."""
        self._post("/denied", {client_id: list(actions) for client_id, actions in actions_by_client_id.items()})

    def revoke_tokens(self, *, challenge: bool = False) -> None:
        """Make ARM refuse all tokens issued so far: with a claims challenge, which azure-core answers itself, or without."""
        self._post("/revoke", {"challenge": challenge})

    def enforce_limits(self, *, enforced: bool = True) -> None:
        """Enforce the request limits of ARM and the identity endpoint, or stop it. They are not enforced at first."""
        self._post("/limits", {"enforced": enforced})

    def refuse_connections(self, seconds: float) -> None:
        """Close the ARM port for this many real seconds."""
        self._post("/refuse", {"seconds": seconds})

    def is_healthy(self) -> bool:
        """Whether an emulator answers."""
        try:
            return bool(self._get("/health")["status"] == "ok")
        except httpx.HTTPError:
            return False

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _get(self, path: str) -> Any:
        return _read(self._http.get(path))

    def _post(self, path: str, body: Any) -> Any:
        return _read(self._http.post(path, json=body))


def _read(answer: httpx.Response) -> Any:
    if answer.status_code == httpx.codes.BAD_REQUEST:
        raise ValueError(answer.json()["error"])
    return answer.raise_for_status().json()
