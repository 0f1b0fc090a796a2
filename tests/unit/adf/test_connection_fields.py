"""A connection's fields: what is read, and what is refused before anything is sent."""

from __future__ import annotations

import json
import re
from importlib.metadata import version
from typing import Any

import pytest
from airflow.sdk import Connection

from airflow_adf_mi._airflow.connections import read_connection
from airflow_adf_mi.adf.config.settings import AdfSettings, Identity, IdentityKind
from airflow_adf_mi.adf.connection_fields import settings_from_connection
from airflow_adf_mi.adf.errors import AdfConfigurationError

SUBSCRIPTION = "11111111-1111-4111-8111-111111111111"
GUID = "22222222-2222-4222-8222-222222222222"
RESOURCE_ID = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/me"
)
OURS = "azure_data_factory_mi"
PROVIDERS = "azure_data_factory"


def read(conn_type: str = OURS, login: str | None = None, password: str | None = None, **extra: Any) -> AdfSettings:
    extra.setdefault("subscriptionId", SUBSCRIPTION)
    return settings_from_connection(
        conn_id="adf", conn_type=conn_type, extra=json.dumps(extra), login=login, password=password
    )


def refusal(**arguments: Any) -> str:
    with pytest.raises(AdfConfigurationError) as refused:
        read(**arguments)
    return str(refused.value)


def test_subscription_alone_means_the_system_assigned_identity_in_the_public_cloud() -> None:
    settings = read()
    assert settings.identity.kind is IdentityKind.MANAGED_IDENTITY
    assert str(settings.identity) == "system-assigned managed identity"
    assert settings.arm_endpoint == "https://management.azure.com"
    assert settings.arm_scope == "https://management.azure.com/.default"


def test_empty_fields_of_a_form_count_as_not_set() -> None:
    assert read(managed_identity_client_id="", managed_identity_object_id=None, factory_name="  ") == read()


@pytest.mark.parametrize(
    ("cloud", "endpoint", "scope", "studio"),
    [
        ("AzurePublicCloud", "https://management.azure.com", "https://management.azure.com/.default", "adf.azure.com"),
        (
            "AzureUSGovernment",
            "https://management.usgovcloudapi.net",
            "https://management.core.usgovcloudapi.net/.default",
            "adf.azure.us",
        ),
        (
            "azurechinacloud",
            "https://management.chinacloudapi.cn",
            "https://management.chinacloudapi.cn/.default",
            "adf.azure.cn",
        ),
        ("AzureCloud", "https://management.azure.com", "https://management.azure.com/.default", "adf.azure.com"),
    ],
)
def test_each_cloud_has_its_endpoint_scope_and_studio(cloud: str, endpoint: str, scope: str, studio: str) -> None:
    settings = read(cloud_environment=cloud, resource_group_name="rg", factory_name="adf")
    assert (settings.arm_endpoint, settings.arm_scope) == (endpoint, scope)
    assert settings.run_address(settings.factory(), "run/1").studio_url == (
        f"https://{studio}/en/monitoring/pipelineruns/run%2F1?factory=%2Fsubscriptions%2F{SUBSCRIPTION}"
        "%2FresourceGroups%2Frg%2Fproviders%2FMicrosoft.DataFactory%2Ffactories%2Fadf"
    )


def test_clouds_are_the_same_as_in_the_official_client() -> None:
    """The library azure-mgmt-core has its own endpoints and scopes, and ours must be equal to them."""
    from azure.core import AzureClouds
    from azure.mgmt.core.tools import get_arm_endpoints

    from airflow_adf_mi.adf.config.settings import CHINA_CLOUD, PUBLIC_CLOUD, US_GOVERNMENT_CLOUD

    for cloud, theirs in (
        (PUBLIC_CLOUD, AzureClouds.AZURE_PUBLIC_CLOUD),
        (US_GOVERNMENT_CLOUD, AzureClouds.AZURE_US_GOVERNMENT),
        (CHINA_CLOUD, AzureClouds.AZURE_CHINA_CLOUD),
    ):
        known = get_arm_endpoints(theirs)
        assert cloud.arm_endpoint == known["resource_manager"].rstrip("/")
        assert [cloud.arm_scope] == known["credential_scopes"]


def test_private_endpoint_uses_the_clouds_scope_by_default() -> None:
    private = read(arm_endpoint="https://arm.private.example/")
    assert (private.arm_endpoint, private.arm_scope) == (
        "https://arm.private.example",
        "https://management.azure.com/.default",
    )
    own = read(arm_endpoint="https://arm.private.example", arm_scope="https://arm.private.example/.default")
    assert own.arm_scope == "https://arm.private.example/.default"


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({"subscriptionId": ""}, "no subscriptionId"),
        ({"subscriptionId": "prod"}, "not a GUID"),
        ({"managed_identity_client_id": GUID, "managed_identity_object_id": GUID}, "in 2 ways at once"),
        ({"managed_identity_client_id": GUID, "managed_identity_resource_id": RESOURCE_ID}, "in 2 ways at once"),
        ({"managed_identity_client_id": "me"}, "managed_identity_client_id is 'me', which is not a GUID"),
        ({"managed_identity_resource_id": "/subscriptions/x"}, "Such an id has the form /subscriptions/"),
        ({"identity": "service_principal"}, "identity is 'service_principal'; it must be one of 'managed_identity'"),
        ({"identity": "developer", "managed_identity_client_id": GUID}, "identity is 'developer'"),
        (
            {"identity": "workload_identity", "managed_identity_object_id": GUID},
            "managed_identity_object_id is set. Use managed_identity_client_id",
        ),
        (
            {"identity": "workload_identity", "managed_identity_resource_id": RESOURCE_ID},
            "managed_identity_resource_id is set. Use managed_identity_client_id",
        ),
        ({"identity": "platform"}, "identity is 'platform'; it must be one of 'managed_identity', 'workload_identity'"),
        ({"workload_identity_tenant_id": "my tenant"}, "is neither a GUID nor a domain name"),
        ({"workload_identity_tenant_id": GUID}, "Set identity to 'workload_identity'"),
        ({"cloud_environment": "AzureGermanCloud"}, "cloud_environment is 'AzureGermanCloud'; it must be one of"),
        ({"factory": "adf"}, "unknown field 'factory' in extra. Did you mean 'factory_name'?"),
        ({"tenantId": GUID}, "unknown field 'tenantId'"),
        ({"factory_name": 7}, "factory_name is 7; it must be text"),
        ({"arm_endpoint": "http://management.azure.com"}, "It must be an https:// address"),
        ({"arm_endpoint": "https://[::1"}, "arm_endpoint is 'https://[::1', which is not an address"),
        ({"arm_endpoint": "https://arm:99999"}, "arm_endpoint is 'https://arm:99999', which is not an address"),
        ({"arm_endpoint": "https://arm:port"}, "arm_endpoint is 'https://arm:port', which is not an address"),
        ({"arm_endpoint": "https://user:hush@management.azure.com"}, "without user, query or fragment"),
        ({"arm_endpoint": "https://user:hu/sh@arm"}, "arm_endpoint is '***@arm', which is not an address."),
        ({"arm_endpoint": "user:hush@arm"}, "arm_endpoint is '***@arm'. It must be an https://"),
        ({"arm_endpoint": "ftp://user:hu/sh@arm"}, "arm_endpoint is '***@arm'"),
        ({"arm_endpoint": "https://user:h#ush@arm"}, "arm_endpoint is '***@arm', which is not an address."),
        (
            {"arm_endpoint": "http://user:hush@arm.example"},
            "arm_endpoint is '***@arm.example'. It must be an https://",
        ),
        (
            {"arm_endpoint": "https://user:hush@arm:port"},
            "arm_endpoint is '***@arm:port', which is not an address",
        ),
        (
            {"arm_scope": "management.azure.com"},
            "arm_scope is 'management.azure.com', which is not a token scope. It must begin with https://",
        ),
        ({"client_secret": "hush"}, "holds a secret (client_secret in extra)"),
        ({"factory_name": "a", "extra__azure_data_factory__factory_name": "b"}, "factory_name is set twice"),
    ],
)
def test_error_of_a_wrong_field_names_the_connection_and_the_field(extra: dict[str, Any], expected: str) -> None:
    text = refusal(**extra)
    assert text.startswith("Connection 'adf': ")
    assert expected in text
    assert "hush" not in text


def test_error_of_a_secret_names_the_field_to_use_instead() -> None:
    text = refusal(conn_type=PROVIDERS, login="app", password="hush")
    assert "holds a secret (password)" in text
    assert "managed_identity_client_id" in text
    assert "hush" not in text


def test_error_of_a_login_names_the_field_to_use_instead() -> None:
    assert "move it to managed_identity_client_id" in refusal(login=GUID)


UNUSED: list[dict[str, Any]] = [{"host": "arm.example"}, {"schema": "https"}, {"port": 443}]


@pytest.mark.parametrize("unused", UNUSED, ids=str)
def test_error_of_an_unused_field_names_the_field_to_use_instead(unused: dict[str, Any]) -> None:
    (name,) = unused
    with pytest.raises(AdfConfigurationError, match=rf"^Connection 'adf': {name} is .*move it to arm_endpoint"):
        settings_from_connection(conn_id="adf", conn_type=OURS, extra=None, **unused)


@pytest.mark.parametrize("text", ["[1]", "adf", '{"extra": {}}'])
def test_error_of_a_connection_without_a_type_shows_how_to_write_it(text: str) -> None:
    if version("apache-airflow") == "3.1.0" and text.startswith("{"):
        pytest.skip("Airflow 3.1.0 itself refuses a connection without a type")
    made = Connection.from_json(text, conn_id="adf") if text.startswith("{") else Connection.from_uri(text, "adf")
    with pytest.raises(
        AdfConfigurationError, match=r'it has no type. In JSON, write "conn_type": "azure_data_factory_mi"'
    ):
        read_connection(made)


def test_other_connection_types_are_refused() -> None:
    assert "its type is 'wasb'" in refusal(conn_type="wasb")


@pytest.mark.parametrize(("extra", "expected"), [("{subscriptionId", "extra is not JSON"), ("[]", "not a JSON object")])
def test_extra_that_is_not_a_json_object_is_refused_without_quoting_it(extra: str, expected: str) -> None:
    with pytest.raises(AdfConfigurationError, match=expected) as refused:
        settings_from_connection(conn_id="adf", conn_type=OURS, extra=extra)
    assert "subscriptionId" not in str(refused.value)


def test_tenant_may_be_named_by_its_domain() -> None:
    settings = read(identity="workload_identity", workload_identity_tenant_id="contoso.onmicrosoft.com")
    assert settings.identity.tenant_id == "contoso.onmicrosoft.com"


@pytest.mark.parametrize("conn_type", ["azure_data_factory_mi", "azure_data_factory"])
def test_error_of_a_uri_with_underscores_in_its_type_suggests_hyphens(conn_type: str) -> None:
    """The scheme of a URI has no underscores. So Airflow reads no type, and a part of it as the schema."""
    made = Connection.from_uri(f"{conn_type}://?subscriptionId={SUBSCRIPTION}", "adf")
    assert not made.conn_type
    with pytest.raises(AdfConfigurationError, match="Write hyphens: azure-data-factory-mi://"):
        read_connection(made)


@pytest.mark.parametrize("kind", IdentityKind)
def test_identity_is_named_without_an_article(kind: IdentityKind) -> None:
    """Texts contain "the {identity}", so an identity must not begin with "the" itself."""
    named = [{}, {"client_id": GUID}] if kind is not IdentityKind.DEVELOPER else [{}]
    for ids in named:
        assert re.match(
            r"(system-assigned )?(managed|workload) identity|developer|identity of", str(Identity(kind=kind, **ids))
        )


def test_option_for_an_identity_replaces_the_identity_of_the_connection() -> None:
    extra = json.dumps({"subscriptionId": SUBSCRIPTION, "managed_identity_client_id": GUID, "factory_name": "adf"})
    settings = settings_from_connection(
        conn_id="adf", conn_type=OURS, extra=extra, instead={"managed_identity_resource_id": RESOURCE_ID}
    )
    assert settings.identity.names() == ["managed_identity_resource_id"]
    assert settings.factory_name == "adf"


def test_factory_of_the_arguments_is_preferred_to_the_connections() -> None:
    settings = read(resource_group_name="rg", factory_name="adf")
    assert settings.factory(factory_name="other").resource_id.endswith(
        "/resourceGroups/rg/providers/Microsoft.DataFactory/factories/other"
    )


@pytest.mark.parametrize("nothing", [None, "", " ", "None"])
def test_template_that_renders_to_nothing_leaves_the_connections_factory(nothing: str | None) -> None:
    settings = read(resource_group_name="rg", factory_name="adf")
    assert settings.factory(nothing, nothing) == settings.factory("rg", "adf")
    with pytest.raises(AdfConfigurationError, match="No resource_group_name and no factory_name"):
        read().factory(nothing, nothing)


def test_numbers_from_native_templates_are_accepted_as_names() -> None:
    assert read().factory(123, 2024) == read().factory("123", "2024")
    for no_name in (True, ["adf"]):
        with pytest.raises(AdfConfigurationError, match=r"factory_name is .*; it must be text"):
            read().factory("rg", no_name)


def test_missing_resource_group_and_factory_are_both_named() -> None:
    with pytest.raises(AdfConfigurationError, match="No resource_group_name and no factory_name"):
        read().factory()
    with pytest.raises(AdfConfigurationError, match="No factory_name"):
        read(resource_group_name="rg").factory()


@pytest.mark.parametrize("name", ["ab", "-adf", "adf-", "a--b", "a_b", "a" * 64, "adf/../x"])
def test_factory_names_that_azure_does_not_allow_are_refused(name: str) -> None:
    with pytest.raises(AdfConfigurationError, match="factory_name"):
        read(resource_group_name="rg").factory(factory_name=name)


@pytest.mark.parametrize("name", ["rg.", "r/g", "a" * 91])
def test_resource_group_names_that_azure_does_not_allow_are_refused(name: str) -> None:
    with pytest.raises(AdfConfigurationError, match="resource_group_name"):
        read(factory_name="adf").factory(resource_group_name=name)


def test_members_of_later_versions_are_ignored() -> None:
    stored = read().to_json()
    stored["identity"]["later"] = stored["later"] = 1
    assert AdfSettings.from_json(stored) == read()
    del stored["ca_bundle"], stored["identity"]["tenant_id"]
    assert AdfSettings.from_json(stored) == read()


def test_settings_that_are_stored_with_a_trigger_stay_the_same() -> None:
    settings = read(
        managed_identity_resource_id=RESOURCE_ID,
        cloud_environment="AzureUSGovernment",
        arm_endpoint="https://arm.private.example",
        ca_bundle="/etc/ca.pem",
    )
    assert AdfSettings.from_json(json.loads(json.dumps(settings.to_json()))) == settings
