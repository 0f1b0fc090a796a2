"""The requests of each recording of the real service get the same answers from the emulator: status, fields, order and values.

The requests of a recording are sent in the order of their dates to one emulator whose clock shows those dates. Values that
never repeat are compared by their form. Skipped if the recordings are not beside the checkout.
"""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Iterable, Iterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any, Self

import httpx

from airflow_adf_mi.emulator import Emulator, FactorySpec
from airflow_adf_mi.emulator.clock import ManualClock
from airflow_adf_mi.emulator.pipelines.definitions import FactoryDefinition, PipelineDefinition
from airflow_adf_mi.emulator.pipelines.script import Script
from tests.conftest import activity, reference

Entry = dict[str, Any]

# Values that differ in every answer, by the name of their member, and their form.
FORMS = {
    "runStart": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,7})?Z",
    "runEnd": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,7})?Z",
    "lastUpdated": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,7})?Z",
    "createTime": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,7})?Z",
    "lastPublishTime": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ",
    "durationInMs": r"\d+",
    "invokedBy.id": r"[0-9a-f]{32}",
    "eTag": r'"[0-9a-f-]{36}"',
    "etag": r"[0-9a-f-]{36}",
}
# Headers of the servers in front of the service.
NOT_COMPARED_HEADERS = {"x-powered-by", "vary", "transfer-encoding", "content-length", "date", "server"}


def comparable(value: Any, name: str = "", parent: str = "", *, but: Sequence[str] = ()) -> Any:
    """The value with the order of its members, and with forms in place of values that differ in every answer."""
    if isinstance(value, Mapping):
        return [(key, comparable(item, key, name, but=but)) for key, item in value.items()]
    if isinstance(value, list):
        return [comparable(item, name, parent, but=but) for item in value]
    if name in but:
        return type(value).__name__
    form = FORMS.get(f"{parent}.{name}") or FORMS.get(name)
    if form is None or value is None:
        return value
    return form if re.fullmatch(form, str(value)) else value


class Replay:
    """An emulator of the factory in a recording, which gets the requests of that recording."""

    def __init__(
        self, uri: str, pipelines: Mapping[str, Any], script: Mapping[str, Any] | None = None, **factory: Any
    ) -> None:
        _, _, subscription, _, group, _, _, _, name = (
            uri.partition("?")[0].removeprefix("https://management.azure.com").split("/")[:9]
        )
        definition = FactoryDefinition(
            pipelines={key: PipelineDefinition(key, properties) for key, properties in pipelines.items()}, **factory
        )
        spec = FactorySpec(
            source=definition, subscription_id=subscription, resource_group_name=group, factory_name=name
        )
        self.clock = ManualClock(start=0)
        self.emulator = Emulator(spec, clock=self.clock, script=Script.from_json(script or {}))

    def __enter__(self) -> Self:
        self.emulator.start()
        tls = ssl.create_default_context(cafile=str(self.emulator.ca_bundle))
        self._http = httpx.Client(base_url=self.emulator.arm_endpoint, verify=tls, trust_env=False)
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()
        self.emulator.stop()

    def answers(self, entries: Iterable[Entry]) -> Iterator[tuple[Entry, httpx.Response]]:
        """The emulator's answers to the requests, sent in the order of their dates."""
        for entry in sorted(entries, key=sent):
            self.clock.advance(sent(entry) - self.clock.now())
            yield entry, self._send(entry)

    def _send(self, entry: Entry) -> httpx.Response:
        token, _ = self.emulator.tokens.issue(self.emulator.identities[0], "https://management.azure.com")
        request = entry["request"]
        headers = {"Authorization": f"Bearer {token}", **request.get("headers", {})}
        body, recorded = request.get("body"), entry["response"]["body"]
        if isinstance(recorded, dict) and "runId" in recorded and "x-ms-client-request-id" not in headers:
            # Recorders remove this header. The form of the ids shows that they come from the client.
            headers["x-ms-client-request-id"] = recorded["runId"]
        return self._http.request(
            request["method"],
            request["uri"].removeprefix("https://management.azure.com"),
            headers=headers,
            json=body if isinstance(body, dict) else None,
        )


def sent(entry: Entry) -> float:
    headers = {name.lower(): value for name, value in entry["response"]["headers"].items()}
    return parsedate_to_datetime(headers["date"]).timestamp()


def same(entry: Entry, answer: httpx.Response, *, but: Sequence[str] = ()) -> None:
    """Compare an answer with the recorded one. Of members that `but` names, only the type is compared."""
    recorded = entry["response"]
    where = f"{entry['request']['method']} {entry['request']['uri']}"
    assert answer.status_code == recorded["status"], where
    body = answer.json() if answer.content else ""
    assert comparable(body, but=but) == comparable(recorded["body"], but=but), where
    headers = {name.lower(): value for name, value in recorded["headers"].items()}
    assert set(headers) - NOT_COMPARED_HEADERS <= set(answer.headers), where
    for name in ("content-type", "cache-control", "expires", "pragma", "strict-transport-security"):
        assert answer.headers.get(name) == headers.get(name, answer.headers.get(name)), where
    if not recorded["body"]:
        assert (answer.headers["content-length"], "content-type" in answer.headers) == ("0", False), where


def entries_of(name: str) -> list[Entry]:
    recording = json.loads((reference("recordings") / name).read_text())
    return list(recording["entries"])


def test_runs_in_the_powershell_recording_of_2020() -> None:
    """A start, a cancel, and three recovery runs, of which one fails."""
    entries = entries_of("powershell_TestPipelineRunV2.json")
    properties = {
        "activities": [activity("MyCopyActivity_1_0"), activity("MyCopyActivity_0_0", "Copy", "MyCopyActivity_1_0")],
        "parameters": {"OutputBlobName": {"type": "String"}},
    }
    failing = {"outcome": "Failed", "error": {"message": "The workflow parameter 'OutputBlobName' is not found"}}
    script = {"activities": {"samplePipeline/MyCopyActivity_0_0": {"seconds": 10, **failing}}}
    with Replay(entries[0]["request"]["uri"], {"samplePipeline": properties}, script) as replay:
        for entry, answer in replay.answers(entries):
            same(entry, answer)
            headers = entry["request"]["headers"]
            if "/createRun" in entry["request"]["uri"]:
                assert answer.json()["runId"] == headers["x-ms-client-request-id"]
        assert len(replay.emulator.books.requests) == len(entries)


def test_factory_in_the_azure_cli_recording_of_2021() -> None:
    """A pipeline is published, run with an undeclared parameter, and cancelled. Lists are queried."""
    entries = entries_of("azcli_test_datafactory_main.json")
    listed, shown, triggered = (
        next(e for e in entries if e["request"]["uri"].split("?")[0].endswith(end))
        for end in ("/pipelines", "/exampleFa000001", "/queryTriggerRuns")
    )
    # Before the list, the pipeline was published once more. That request was not recorded.
    later = {p["name"]: {**p["properties"]} for p in listed["response"]["body"]["value"]}
    del later["example000005"]["lastPublishTime"]
    factory = shown["response"]["body"]
    described = {name: factory[name] for name in ("location", "identity", "tags")}
    # This member is absent from the recording of 2022.
    assert shown["response"]["body"]["properties"].pop("encryption") == {}
    # The emulator has no triggers, and so no trigger runs.
    assert len(triggered["response"]["body"]["value"]) == 1
    triggered["response"]["body"]["value"] = []
    # The recorder changed the names in ids, in different ways.
    but = ("id",)
    with (
        Replay(shown["request"]["uri"], {}, **described) as running,
        Replay(shown["request"]["uri"], later, **described) as lists,
    ):
        runs = [e for e in entries if e not in (listed, shown)]
        for entry, answer in [*running.answers(runs), *lists.answers([listed, shown])]:
            same(entry, answer, but=but)
        asked = [*running.emulator.books.requests, *lists.emulator.books.requests]
    assert len(asked) == len(entries)
    assert {record.operation for record in asked} >= {"putPipeline", "queryTriggerRuns"}


def test_cancels_of_unknown_runs_in_the_recording_of_2018() -> None:
    for entry in entries_of("cancel_unknown_run_400.json"):
        with Replay(entry["request"]["uri"], {}) as replay:
            for each, answer in replay.answers([entry]):
                same(each, answer)


def test_missing_objects_in_the_net_recording_of_2022() -> None:
    """A missing pipeline, a missing factory, and both when they exist."""
    no_pipeline, no_factory, there = entries_of("net_404_bodies.json")
    with Replay(no_pipeline["request"]["uri"], {}) as replay:
        ((entry, answer),) = replay.answers([no_pipeline])
        same(entry, answer)
    with Replay(no_factory["request"]["uri"].replace("dataFactory-3863", "another"), {}) as replay:
        ((entry, answer),) = replay.answers([no_factory])
        same(entry, answer)
        assert answer.headers["x-ms-failure-cause"] == no_factory["response"]["headers"]["x-ms-failure-cause"]
    pipeline, factory = there["response"]["bodies"]
    date = no_factory["response"]["headers"]
    # ARM shows names in paths as they were first written. The recorded ones differ in case.
    factory["name"] = factory["id"].rpartition("/")[2]
    published: dict[str, dict[str, Any]] = {pipeline["name"]: {}}
    for body in (pipeline, factory):
        uri = f"{body['id']}?api-version=2018-06-01"
        with Replay(uri, published, location="westus2", tags={}) as replay:
            request = {"method": "GET", "uri": uri}
            ((entry, answer),) = replay.answers(
                [{"request": request, "response": {"status": 200, "headers": date, "body": body}}]
            )
            assert answer.status_code == 200
            assert comparable(answer.json()) == comparable(body)


def test_failed_run_in_a_recorded_list_of_2021() -> None:
    recording = json.loads((reference("recordings") / "queryPipelineRuns_failed_example.json").read_text())
    (run,) = recording["value"]
    message = run["message"].removeprefix("Operation on target Web1_copy1 failed: ")
    script = {"activities": {"pipeline1/Web1_copy1": {"outcome": "Failed", "error": {"message": message}}}}
    group = "/subscriptions/<Sub-Uppercase>/resourceGroups/<Rg-Uppercase>"
    uri = f"{group}/providers/Microsoft.DataFactory/factories/<Factory-Uppercase>"
    start = {
        "request": {"method": "POST", "uri": f"{uri}/pipelines/pipeline1/createRun?api-version=2018-06-01"},
        "response": {
            "status": 200,
            "headers": {"Date": "Thu, 18 Mar 2021 17:13:00 GMT"},
            "body": {"runId": run["runId"]},
        },
    }
    window = {"lastUpdatedAfter": "2021-03-18T00:00:00Z", "lastUpdatedBefore": "2021-03-19T00:00:00Z"}
    listing = {
        "request": {"method": "POST", "uri": f"{uri}/queryPipelineRuns?api-version=2018-06-01", "body": window},
        "response": {
            "status": 200,
            "headers": {"Date": "Thu, 18 Mar 2021 17:14:00 GMT"},
            "body": {"value": recording["value"]},
        },
    }
    with Replay(uri, {"pipeline1": {"activities": [activity("Web1_copy1")]}}, script) as replay:
        for entry, answer in replay.answers([start, listing]):
            same(entry, answer)


def test_every_recording_has_a_test() -> None:
    names = {path.name for path in reference("recordings").glob("*.json")}
    assert names == {
        "azcli_test_datafactory_main.json",
        "cancel_unknown_run_400.json",
        "net_404_bodies.json",
        "powershell_TestPipelineRunV2.json",
        "queryPipelineRuns_failed_example.json",
    }
