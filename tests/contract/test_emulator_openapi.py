"""All answers of the emulator are valid against the published OpenAPI specification, as far as that describes them.

Two of its rules are not applied, because the recordings of the real service break them: members that it does not describe
may be anything (it wants objects; the service sends lists, text and null), and null is as good as absent. Two are read as
the specification's own generator of clients reads them: enumerations called open (`modelAsString`) are open, and an object
without any further rule may be any value. Skipped if the specification is not beside the checkout.
"""

from __future__ import annotations

import json
import ssl
import uuid
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft4Validator, ValidationError
from referencing import Registry
from referencing.jsonschema import DRAFT4

from airflow_adf_mi.emulator import Emulator, FactorySpec
from airflow_adf_mi.emulator.clock import ManualClock
from airflow_adf_mi.emulator.gateway.routes import NAMES, OPERATIONS, find
from airflow_adf_mi.emulator.pipelines.script import Script
from tests.conftest import ROOT, reference

OPERATION_IDS = {
    "Pipelines_CreateRun": "createRun",
    "PipelineRuns_Get": "getRun",
    "PipelineRuns_Cancel": "cancelRun",
    "PipelineRuns_QueryByFactory": "queryRuns",
    "ActivityRuns_QueryByPipelineRun": "queryActivityRuns",
    "Factories_Get": "getFactory",
    "Factories_List": "listFactories",
    "Factories_ListByResourceGroup": "listFactories",
    "Pipelines_Get": "getPipeline",
    "Pipelines_ListByFactory": "listPipelines",
    "Pipelines_CreateOrUpdate": "putPipeline",
    "TriggerRuns_QueryByFactory": "queryTriggerRuns",
}
WINDOW = {"lastUpdatedAfter": "2000-01-01T00:00:00Z", "lastUpdatedBefore": "2100-01-01T00:00:00Z"}
UNKNOWN = "00000000-0000-4000-8000-000000000404"


def lax(schema: Any) -> Any:
    """The schema with only those rules that are applied here; see above."""
    if isinstance(schema, list):
        return [lax(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    left_out = set()
    if isinstance(schema.get("properties"), dict):
        left_out.add("additionalProperties")
    if schema.get("x-ms-enum", {}).get("modelAsString"):
        left_out.add("enum")
    if schema.get("type") == "object" and not {"properties", "additionalProperties", "allOf"} & set(schema):
        left_out.add("type")
    return {key: lax(value) for key, value in schema.items() if key not in left_out}


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


@cache
def document(path: Path) -> dict[str, Any]:
    return dict(lax(json.loads(path.read_text(encoding="utf-8-sig"))))


def specification() -> Path:
    return reference("openapi") / "datafactory.json"


@cache
def files() -> Registry[Any]:
    paths = [specification(), *(reference("openapi") / "entityTypes").glob("*.json")]
    registry: Registry[Any] = Registry()
    return registry.with_resources([(path.as_uri(), DRAFT4.create_resource(document(path))) for path in paths])


def operations() -> dict[str, tuple[str, str, dict[str, Any]]]:
    """Method, path and the responses of each operation, by its id."""
    return {
        operation["operationId"]: (method.upper(), path, operation["responses"])
        for path, methods in document(specification())["paths"].items()
        for method, operation in methods.items()
    }


def validate(body: Any, operation_id: str, status: int) -> None:
    """Check an answer. Raises `ValidationError`. The specification must describe its status, or errors in general."""
    responses = operations()[operation_id][2]
    described = responses.get(str(status)) or (responses["default"] if status >= 400 else None)
    assert described is not None, f"{operation_id} does not answer {status}"
    if "schema" not in described:
        assert body is None, f"{operation_id} answers {status} without a body"
        return
    # References in the files are relative to the files' own addresses.
    pointer = {"$ref": f"{specification().as_uri()}{described['schema']['$ref']}"}
    Draft4Validator(pointer, registry=files()).validate(without_nulls(body))


class ValidatingClient:
    """A client of an emulated factory, which validates every answer."""

    def __init__(self, emulator: Emulator) -> None:
        tls = ssl.create_default_context(cafile=str(emulator.ca_bundle))
        token, _ = emulator.tokens.issue(emulator.identities[0], "https://management.azure.com")
        self.http = httpx.Client(
            base_url=emulator.arm_endpoint,
            verify=tls,
            trust_env=False,
            params={"api-version": "2018-06-01"},
            headers={"Authorization": f"Bearer {token}"},
        )
        factory = emulator.state()
        self.names = {
            "subscriptionId": factory.subscription_id,
            "resourceGroupName": factory.resource_group_name,
            "factoryName": factory.factory_name,
        }
        self.seen: set[tuple[str, int]] = set()

    def ask(self, operation_id: str, *, json: Any = None, headers: dict[str, str] | None = None, **names: str) -> Any:
        method, path, _ = operations()[operation_id]
        answer = self.http.request(method, path.format(**{**self.names, **names}), json=json, headers=headers)
        body = answer.json() if answer.content else None
        validate(body, operation_id, answer.status_code)
        self.seen.add((operation_id, answer.status_code))
        return body


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    script = Script.from_json(
        {
            "activities": {
                "ImportPartnerFile/CopyPartnerFile": {"outcome": "Failed", "error": {"errorCode": "1", "message": "m"}}
            }
        }
    )
    with Emulator(FactorySpec(source=ROOT / "dags" / "factory"), script=script, clock=ManualClock()) as running:
        yield running


@pytest.fixture
def api(emulator: Emulator) -> Iterator[ValidatingClient]:
    client = ValidatingClient(emulator)
    yield client
    client.http.close()


def test_emulator_has_the_paths_of_the_specification() -> None:
    for operation_id, name in OPERATION_IDS.items():
        method, path, _ = operations()[operation_id]
        found = find(method, path.replace("{", "").replace("}", ""))
        assert found is not None
        assert found[0].name == name
    assert set(OPERATION_IDS.values()) == NAMES
    assert len(OPERATION_IDS) == len(OPERATIONS)


def test_every_answer_is_valid(api: ValidatingClient, emulator: Emulator) -> None:
    """This covers all operations, runs with every status, and each kind of refusal."""
    names = [pipeline["name"] for pipeline in api.ask("Pipelines_ListByFactory")["value"]]
    run_ids = []
    for name in names:
        declared = api.ask("Pipelines_Get", pipelineName=name)["properties"].get("parameters", {})
        given = {parameter: "x" for parameter, spec in declared.items() if "defaultValue" not in spec}
        run_ids.append(api.ask("Pipelines_CreateRun", pipelineName=name, json=given)["runId"])
    statuses = set()
    for seconds in (0, 1, 0, 1, 3600):
        emulator.clock.advance(seconds)
        for run_id in run_ids:
            statuses.add(api.ask("PipelineRuns_Get", runId=run_id)["status"])
            api.ask("ActivityRuns_QueryByPipelineRun", runId=run_id, json=WINDOW)
        api.ask("PipelineRuns_QueryByFactory", json=WINDOW)
        if "Canceling" not in statuses:
            api.ask("PipelineRuns_Cancel", runId=run_ids[0])
    assert statuses >= {"Queued", "InProgress", "Canceling", "Cancelled", "Succeeded", "Failed"}
    factory = api.ask("Factories_Get")
    api.ask("Factories_Get", headers={"If-None-Match": factory["eTag"]})
    api.ask("Factories_List")
    api.ask("Factories_ListByResourceGroup")
    api.ask("TriggerRuns_QueryByFactory", json=WINDOW)
    published = api.ask("Pipelines_Get", pipelineName=names[0])
    api.ask("Pipelines_CreateOrUpdate", pipelineName=names[0], json=published)
    api.ask("Pipelines_CreateOrUpdate", pipelineName="New", json={"properties": {"activities": []}})
    api.ask("Pipelines_Get", pipelineName="New")

    # Refusals: missing objects, a finished run, a bad body, a bad filter, a bad pipeline, an old tag, no token, no
    # role, throttled.
    api.ask("PipelineRuns_Get", runId=UNKNOWN)
    api.ask("PipelineRuns_Cancel", runId=UNKNOWN)
    api.ask("PipelineRuns_Cancel", runId=run_ids[0])
    api.ask("Pipelines_Get", pipelineName="nope")
    api.ask("Factories_Get", factoryName="nope")
    api.ask("Pipelines_CreateRun", pipelineName=names[0], json=[])
    api.ask("PipelineRuns_QueryByFactory", json={**WINDOW, "filters": [{"operand": "Nope"}]})
    api.ask("PipelineRuns_QueryByFactory", json={})
    api.ask("TriggerRuns_QueryByFactory", json={})
    api.ask("Pipelines_CreateOrUpdate", pipelineName=names[0], json={})
    api.ask("Pipelines_CreateOrUpdate", pipelineName=names[0], json=published, headers={"If-Match": "old"})
    api.ask("Factories_Get", headers={"Authorization": "Bearer x"})
    emulator.tokens.denied = {emulator.identities[0].client_id: {"pipelineruns/read"}}
    api.ask("PipelineRuns_Get", runId=run_ids[0])
    emulator.add_fault("queryRuns", status=429)
    api.ask("PipelineRuns_QueryByFactory", json=WINDOW)
    answered = {status for _, status in api.seen}
    assert answered == {200, 304, 400, 401, 403, 404, 412, 429}
    assert {operation_id for operation_id, status in api.seen if status == 200} == set(OPERATION_IDS)


def test_pages_are_valid(api: ValidatingClient, emulator: Emulator) -> None:
    emulator.state().switches.page_size = 1
    for _ in range(2):
        api.ask(
            "Pipelines_CreateRun", pipelineName="BulkCopyTables", headers={"x-ms-client-request-id": str(uuid.uuid4())}
        )
    page = api.ask("PipelineRuns_QueryByFactory", json=WINDOW)
    assert page["continuationToken"]
    api.ask("PipelineRuns_QueryByFactory", json={**WINDOW, "continuationToken": page["continuationToken"]})


@pytest.mark.parametrize(
    ("operation_id", "status", "body"),
    [
        ("Pipelines_CreateRun", 200, {}),
        ("Pipelines_CreateRun", 200, {"runId": 1}),
        ("PipelineRuns_Get", 200, {"durationInMs": "1"}),
        ("PipelineRuns_Get", 200, {"parameters": {"n": 1}}),
        ("PipelineRuns_QueryByFactory", 200, {"value": [{"status": 1}]}),
        ("Pipelines_Get", 200, {"properties": {"activities": [{"type": "Copy"}]}}),
        ("PipelineRuns_Get", 404, {"error": {"message": "no code"}}),
    ],
)
def test_invalid_answers_are_refused(operation_id: str, status: int, body: Any) -> None:
    with pytest.raises(ValidationError):
        validate(body, operation_id, status)


def test_recorded_answers_are_valid() -> None:
    """This covers every recorded answer to one of our operations."""
    checked = 0
    for path in sorted(reference("recordings").glob("*.json")):
        for entry in json.loads(path.read_text()).get("entries", []):
            if "request" not in entry:
                continue
            uri = entry["request"]["uri"].removeprefix("https://management.azure.com").partition("?")[0]
            found = find(entry["request"]["method"], uri)
            if found is None:
                continue
            operation_id = next(key for key, name in OPERATION_IDS.items() if name == found[0].name)
            validate(entry["response"]["body"] or None, operation_id, entry["response"]["status"])
            checked += 1
    assert checked >= 20
