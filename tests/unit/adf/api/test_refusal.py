"""Answers that are not a success: who sent them, and the errors and advice that they become."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_adf_mi.adf.api import operations
from airflow_adf_mi.adf.api.error_mapping import from_answer
from airflow_adf_mi.adf.api.refusal import FRONT_DOOR, MISSING_ROLE, MOST_QUOTED_CHARACTERS, Refusal, is_front_door
from airflow_adf_mi.adf.config.addresses import FactoryRef
from airflow_adf_mi.adf.config.settings import AdfSettings
from airflow_adf_mi.adf.errors import (
    AdfAuthenticationError,
    AdfError,
    AdfNotFoundError,
    AdfPermissionError,
    AdfRequestError,
    AdfThrottledError,
    AdfUnavailableError,
)

SUBSCRIPTION = "11111111-1111-4111-8111-111111111111"
FACTORY = FactoryRef(subscription_id=SUBSCRIPTION, resource_group_name="rg", factory_name="adf")
SETTINGS = AdfSettings(subscription_id=SUBSCRIPTION)
PAGE = (
    "<!DOCTYPE html><html><head><title>Access Denied</title><style>p { color: red }</style><script>x = '<p>'</script></head>"
    "<body><h1>Web filter</h1>\n<p>Category: cloud &amp; hosting. Ask token=planted for help.</p></body></html>"
)


def error(code: str = "Code", message: str = "Words.", **members: Any) -> str:
    return json.dumps({"error": {"code": code, "message": message, **members}})


def read(status: int, text: str, **headers: str) -> Refusal:
    return Refusal.read(status, "Reason", {name.replace("_", "-"): value for name, value in headers.items()}, text)


def error_of(refusal: Refusal, call: operations.Call[Any] | None = None) -> AdfError:
    return from_answer(call or operations.create_run(FACTORY, "Load", None, request_id="k"), SETTINGS, refusal)


def test_error_object_belongs_to_the_service() -> None:
    refusal = read(409, error("ScopeLocked"), x_ms_failure_cause="gateway", x_ms_request_id="r", Retry_After="7")
    assert refusal == Refusal(
        status=409, message="Words.", code="ScopeLocked", failure_cause="gateway", request_id="r", retry_after=7.0
    )
    assert refusal.quote == " The service answered 409 ScopeLocked: Words."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (PAGE, "Access Denied Web filter Category: cloud & hosting. Ask token=*** for help."),
        ("<p>no <b>title</b></p>", "no title"),
        ("<p>odd</p><![odd[ x ]]>", "odd ..."),
        ("just\n  words", "just words"),
        ('{"statusCode": 403, "message": "of a gateway"}', '{"statusCode": 403, "message": "of a gateway"}'),
        ('{"error": "forbidden"}', '{"error": "forbidden"}'),
        ('{"error": {"message": "no code"}}', '{"error": {"message": "no code"}}'),
        ('{"error": {"code": 7, "message": "x"}}', '{"error": {"code": 7, "message": "x"}}'),
        ("[]", "[]"),
        ("null", "null"),
        ("", "Reason"),
    ],
)
def test_every_other_answer_is_foreign_and_quoted_as_text(text: str, expected: str) -> None:
    refusal = read(403, text)
    assert (refusal.is_foreign, refusal.code, refusal.message) == (True, None, expected)
    assert refusal.quote.startswith(" The answer was 403: ")


def test_answer_without_a_body_is_assigned_by_its_headers() -> None:
    assert not read(404, "", x_ms_request_id="r").is_foreign
    assert read(404, "").is_foreign
    bare = read(400, '{"code": "PipelineRunNotRunning", "message": "Over."}', x_ms_request_id="r")
    assert (bare.is_foreign, bare.code, bare.message) == (False, "PipelineRunNotRunning", "Over.")
    assert read(400, '{"code": "blocked", "message": "By a filter."}').is_foreign
    # A web filter may keep the headers of the answer whose body it replaces.
    assert read(403, PAGE, x_ms_request_id="r").is_foreign


def test_only_the_start_of_a_page_is_quoted() -> None:
    refusal = read(403, "<title>Denied</title><p>" + "word " * 100_000)
    assert refusal.message.startswith("Denied word word")
    assert len(refusal.message) < MOST_QUOTED_CHARACTERS + 50


@given(
    st.sampled_from([300, 302, 307, 400, 401, 403, 404, 405, 408, 409, 418, 429, 451, 500, 503, 511]),
    st.one_of(
        st.text(),
        st.text("<!-/[]>=a'&;#\"").map(lambda text: f"<{text}"),
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.floats(), st.text()),
            lambda inner: st.one_of(
                st.lists(inner),
                st.dictionaries(
                    st.sampled_from(["error", "code", "message", "additionalInfo", "info", "policyAssignmentName"]),
                    inner,
                ),
            ),
        ).map(json.dumps),
    ),
    st.sampled_from(["", "text/html", "application/json"]),
)
def test_odd_answer_becomes_an_error_with_a_short_text(status: int, text: str, content_type: str) -> None:
    refusal = read(status, text, Content_Type=content_type, Location=text, Retry_After=text)
    assert len(refusal.message) <= MOST_QUOTED_CHARACTERS + 50
    assert isinstance(error_of(refusal), AdfError)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, AdfUnavailableError),
        (307, AdfUnavailableError),
        (400, AdfUnavailableError),
        (401, AdfUnavailableError),
        (403, AdfUnavailableError),
        (404, AdfUnavailableError),
        (407, AdfUnavailableError),
        (409, AdfUnavailableError),
        (429, AdfThrottledError),
        (502, AdfUnavailableError),
    ],
)
def test_page_with_any_status_is_not_an_answer_of_the_service(status: int, kind: type[AdfError]) -> None:
    ours = error_of(read(status, PAGE))
    assert type(ours) is kind
    assert "Access Denied Web filter" in str(ours)
    assert "az role" not in str(ours)
    if isinstance(ours, AdfUnavailableError):
        assert (ours.status, ours.is_foreign) == (status, True)
    if status not in (302, 307, 429):
        assert "not from Azure Resource Manager. A proxy, gateway or web filter between this machine and" in str(ours)


def test_error_of_a_redirect_names_only_its_host() -> None:
    ours = error_of(
        read(307, "", Location="https://user:planted@login.example.com/x?token=planted", x_ms_request_id="r")
    )
    assert isinstance(ours, AdfUnavailableError)
    assert (ours.status, ours.is_foreign) == (307, False)
    assert "redirects to another address, on login.example.com. It is not followed" in str(ours)
    assert "planted" not in str(ours)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("ScopeLocked", "Remove the lock (az lock list, az lock delete)"),
        ("ReadOnlyDisabledSubscription", f"subscription {SUBSCRIPTION} is disabled"),
        (
            "MissingSubscriptionRegistration",
            f"az provider register --namespace Microsoft.DataFactory --subscription {SUBSCRIPTION}",
        ),
        ("ResourceGroupBeingDeleted", "the resource group is being deleted"),
    ],
)
def test_refusal_of_the_front_door_explains_what_to_do(code: str, expected: str) -> None:
    ours = error_of(read(409, error(code), x_ms_failure_cause="gateway"))
    assert isinstance(ours, AdfRequestError)
    assert (ours.code, ours.failure_cause) == (code, "gateway")
    assert expected in str(ours)
    assert str(ours).endswith(f"The service answered 409 {code}: Words.")


def test_front_door_is_recognized_by_its_codes_or_its_header() -> None:
    assert all(is_front_door(code, None) for code in FRONT_DOOR)
    assert is_front_door("OfNextYear", "gateway")
    assert not is_front_door("OfNextYear", None)
    assert not is_front_door("PipelineConflict", "service")
    unknown = error_of(read(409, error("OfNextYear"), x_ms_failure_cause="gateway"))
    assert "the service refused the request before it reached Data Factory." in str(unknown)


POLICY_INFO = [
    {
        "type": "PolicyViolation",
        "info": {"policyAssignmentDisplayName": "No runs at night", "policyDefinitionName": "d-1"},
    },
    {"type": "PolicyViolation", "info": {"policyAssignmentDisplayName": "No runs at night"}},
    {"type": "Odd", "info": "x"},
    "odd",
]
POLICY_WORDS = (
    'Resource \'x\' was disallowed by policy. Policy identifiers: \'[{"policyAssignment":{"name":"No runs at night",'
    '"id":"/a"},"policyDefinition":{"name":"d-1","id":"/d"}}]\'.'
)


@pytest.mark.parametrize("body", [{"additionalInfo": POLICY_INFO}, {"message": POLICY_WORDS}])
def test_policy_is_named_and_no_role_suggested(body: dict[str, Any]) -> None:
    ours = error_of(read(403, error(**{"code": "RequestDisallowedByPolicy", **body})))
    assert isinstance(ours, AdfPermissionError)
    assert "Azure Policy forbids it ('No runs at night', 'd-1')." in str(ours)
    assert "az role" not in str(ours)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("PublicNetworkAccessDisabled", "no."),
        ("Forbidden", "Access over a public network access point: public network access is disabled."),
        ("Forbidden", "Connect through a private endpoint."),
    ],
)
def test_refusal_of_public_access_suggests_another_network(code: str, message: str) -> None:
    ours = error_of(read(403, error(code, message)))
    assert "requests over a public network are not accepted here. Run workers and triggerers in a network" in str(ours)
    assert "az role" not in str(ours)


@pytest.mark.parametrize("code", [*sorted(MISSING_ROLE), "SomethingElse"])
def test_role_is_suggested_only_for_a_missing_role(code: str) -> None:
    ours = error_of(read(403, error(code)))
    assert isinstance(ours, AdfPermissionError)
    assert ("az role assignment create" in str(ours)) is (code in MISSING_ROLE)


def test_page_with_401_is_not_a_refused_token() -> None:
    assert isinstance(error_of(read(401, error("InvalidAuthenticationToken"))), AdfAuthenticationError)
    assert isinstance(error_of(read(401, PAGE)), AdfUnavailableError)


@pytest.mark.parametrize(
    ("code", "missing", "expected"),
    [
        ("SubscriptionNotFound", "subscription", f"there is no subscription {SUBSCRIPTION}"),
        ("ResourceGroupNotFound", "factory", f"subscription {SUBSCRIPTION} has no resource group 'rg'"),
        ("ResourceNotFound", "factory", "there is no such factory"),
        ("NotFound", "run", "the factory has no run r1"),
    ],
)
def test_missing_objects_are_distinguished(code: str, missing: str, expected: str) -> None:
    ours = error_of(read(404, error(code)), operations.get_run(FACTORY, "r1"))
    assert isinstance(ours, AdfNotFoundError)
    assert ours.missing == missing
    assert expected in str(ours)


def test_error_of_a_request_for_the_factory_names_it_once() -> None:
    text = str(error_of(read(403, error()), operations.get_factory(FACTORY)))
    assert text.startswith("Could not read factory 'adf' (resource group 'rg'): ")
    text = str(error_of(read(403, error()), operations.list_pipelines(FACTORY)))
    assert text.startswith("Could not list the pipelines in factory 'adf' (resource group 'rg'): ")


def test_odd_code_is_masked_and_cut() -> None:
    code = f"{'x' * 3000} password=hunter2hunter2"
    refusal = Refusal.read(
        400,
        "Bad Request",
        {"x-ms-request-id": "r password=hunter2hunter2", "x-ms-failure-cause": "token=hunter2hunter2"},
        json.dumps({"error": {"code": code, "message": "m"}}),
    )
    shown = f"{refusal.code} {refusal.request_id} {refusal.failure_cause} {refusal.quote}"
    assert "hunter2" not in shown
    assert len(shown) < 1000
    assert Refusal.read(409, "", {}, '{"error": {"code": "ScopeLocked"}}').code == "ScopeLocked"
    token = "eyJhbGciOiJub25l.eyJhdWQiOiJ4.c2ln"
    assert Refusal.read(409, "", {}, json.dumps({"error": {"code": token}})).code == "***"
