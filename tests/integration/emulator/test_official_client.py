"""The official client and azure-identity, without code of ours, with the emulator over real TLS."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError, ServiceRequestError, ServiceResponseError
from azure.identity import ManagedIdentityCredential
from azure.identity.aio import ManagedIdentityCredential as AsyncManagedIdentityCredential
from azure.mgmt.datafactory import DataFactoryManagementClient
from azure.mgmt.datafactory.aio import DataFactoryManagementClient as AsyncDataFactoryManagementClient
from azure.mgmt.datafactory.models import RunFilterParameters

from airflow_adf_mi.emulator import Emulator
from airflow_adf_mi.emulator.identity.tokens import SYSTEM_ASSIGNED
from tests.support.minors import needs_new_identity, wire_form

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
WINDOW = RunFilterParameters(last_updated_after=NOW - DAY, last_updated_before=NOW + DAY)


def settings(emulator: Emulator) -> dict[str, Any]:
    return {
        "subscription_id": emulator.state().subscription_id,
        "base_url": emulator.arm_endpoint,
        "credential_scopes": [emulator.arm_scope],
        "connection_verify": str(emulator.ca_bundle),
    }


@pytest.fixture
def client(emulator: Emulator) -> Iterator[DataFactoryManagementClient]:
    with (
        ManagedIdentityCredential() as credential,
        DataFactoryManagementClient(credential, **settings(emulator)) as opened,
    ):
        yield opened


@pytest.fixture
async def async_client(emulator: Emulator) -> AsyncIterator[AsyncDataFactoryManagementClient]:
    async with (
        AsyncManagedIdentityCredential() as credential,
        AsyncDataFactoryManagementClient(credential, **settings(emulator)) as opened,
    ):
        yield opened


FACTORY = ("rg-test", "adf-test")


def test_each_call_works(client: DataFactoryManagementClient, emulator: Emulator) -> None:
    key = str(uuid.uuid4())
    created = client.pipelines.create_run(
        *FACTORY, "Load", parameters={"day": "y"}, headers={"x-ms-client-request-id": key}
    )
    assert created.run_id == key
    emulator.clock.advance(60)
    run = client.pipeline_runs.get(*FACTORY, key)
    assert (run.status, run.parameters, wire_form(run)["runDimension"]) == ("Succeeded", {"day": "y"}, {})
    assert run.run_end is not None
    assert run.run_end.tzinfo is not None
    (listed,) = client.pipeline_runs.query_by_factory(*FACTORY, WINDOW).value
    assert listed.run_id == key
    (ran,) = client.activity_runs.query_by_pipeline_run(*FACTORY, key, WINDOW).value
    assert (ran.activity_name, wire_form(ran).get("retryAttempt")) == ("Copy", None)
    slow = client.pipelines.create_run(*FACTORY, "Slow").run_id
    client.pipeline_runs.cancel(*FACTORY, slow, is_recursive=True)
    factory, pipeline = client.factories.get(*FACTORY), client.pipelines.get(*FACTORY, "Load")
    assert factory is not None
    assert pipeline is not None
    assert (factory.name, pipeline.name) == ("adf-test", "Load")
    assert [factory.name for factory in client.factories.list()] == ["adf-test"]
    assert [factory.name for factory in client.factories.list_by_resource_group("rg-test")] == ["adf-test"]
    assert "Slow" in [pipeline.name for pipeline in client.pipelines.list_by_factory(*FACTORY)]
    assert {record.client_id for record in emulator.books.requests} == {SYSTEM_ASSIGNED.client_id}
    assert len(emulator.books.tokens) == 1


async def test_each_async_call_works(async_client: AsyncDataFactoryManagementClient, emulator: Emulator) -> None:
    key = str(uuid.uuid4())
    created = await async_client.pipelines.create_run(*FACTORY, "Load", headers={"x-ms-client-request-id": key})
    assert created.run_id == key
    emulator.clock.advance(60)
    assert (await async_client.pipeline_runs.get(*FACTORY, key)).status == "Succeeded"
    listed = await async_client.pipeline_runs.query_by_factory(*FACTORY, WINDOW)
    assert [run.run_id for run in listed.value] == [key]
    ran = await async_client.activity_runs.query_by_pipeline_run(*FACTORY, key, WINDOW)
    assert [entry.activity_name for entry in ran.value] == ["Copy"]
    slow = (await async_client.pipelines.create_run(*FACTORY, "Slow")).run_id
    await async_client.pipeline_runs.cancel(*FACTORY, slow)
    assert [factory.name async for factory in async_client.factories.list()] == ["adf-test"]


def test_errors_are_the_clients_own(client: DataFactoryManagementClient, emulator: Emulator) -> None:
    with pytest.raises(ResourceNotFoundError) as missing:
        client.pipeline_runs.get(*FACTORY, "nope")
    assert missing.value.error is not None
    assert missing.value.error.code == "NotFound"
    with pytest.raises(HttpResponseError) as refused:
        client.pipeline_runs.cancel(*FACTORY, "nope")
    assert refused.value.status_code == 400
    assert refused.value.error is not None
    assert refused.value.error.code == "ReferencedPipelineRunNotFound"
    emulator.tokens.denied = {SYSTEM_ASSIGNED.client_id: {"read"}}
    with pytest.raises(HttpResponseError) as forbidden:
        client.factories.get(*FACTORY)
    assert forbidden.value.status_code == 403


@needs_new_identity
def test_client_answers_a_claims_challenge_by_itself(client: DataFactoryManagementClient, emulator: Emulator) -> None:
    client.factories.get(*FACTORY)
    emulator.call(lambda: emulator.tokens.revoke(challenge=True))
    assert client.pipelines.create_run(*FACTORY, "Load").run_id
    assert [record.status for record in emulator.books.of("createRun")] == [401, 200]
    assert len(emulator.state().runs) == 1
    assert len(emulator.books.tokens) == 2


def test_lost_answer_to_createrun_is_a_response_error(client: DataFactoryManagementClient, emulator: Emulator) -> None:
    emulator.add_fault("createRun", effect="after", drop=True)
    with pytest.raises(ServiceResponseError):
        client.pipelines.create_run(*FACTORY, "Load", retry_total=0)
    assert len(emulator.state().runs) == 1


async def test_lost_answer_to_createrun_is_a_request_error_of_the_async_client(
    async_client: AsyncDataFactoryManagementClient, emulator: Emulator
) -> None:
    """The async transport of azure-core raises a request error, although the run was started."""
    emulator.add_fault("createRun", effect="after", drop=True)
    with pytest.raises(ServiceRequestError):
        await async_client.pipelines.create_run(*FACTORY, "Load", retry_total=0)
    assert len(emulator.state().runs) == 1


def test_default_retries_of_the_transport_start_a_second_run(
    client: DataFactoryManagementClient, emulator: Emulator
) -> None:
    """For this reason, our clients send createRun only once. By default, the emulator answers 409 to the same request id."""
    emulator.state().switches.duplicate_request_id = "new"
    emulator.add_fault("createRun", effect="after", status=503)
    client.pipelines.create_run(*FACTORY, "Load", retry_backoff_factor=0)
    assert len(emulator.state().runs) == 2
    first, second = emulator.books.of("createRun")
    assert first.client_request_id == second.client_request_id
