"""The command `airflow-adf-mi`: what the check reports, that it starts nothing, and the role that it prints."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

import airflow_adf_mi
from airflow_adf_mi.adf.api import operations
from airflow_adf_mi.adf.api.client import AdfClient
from airflow_adf_mi.adf.api.operations import get_factory
from airflow_adf_mi.adf.config.addresses import FactoryRef
from airflow_adf_mi.adf.config.role import ACTIONS, FORMATS, assignment_command, assignment_for, definition_command
from airflow_adf_mi.adf.config.settings import AdfSettings
from airflow_adf_mi.adf.connection_check import CheckStatus, all_well, check
from airflow_adf_mi.adf.errors import AdfConfigurationError, AdfPermissionError
from airflow_adf_mi.adf.log_once import log_once
from airflow_adf_mi.cli import main
from airflow_adf_mi.emulator import Emulator, FactorySpec
from airflow_adf_mi.emulator.identity.tokens import SYSTEM_ASSIGNED, USER_ASSIGNED
from airflow_adf_mi.hooks import AdfHook
from tests.conftest import ROOT
from tests.support.examples import FACTORY

Run = Callable[..., tuple[int, dict[str, dict[str, Any]]]]
CHANGES = {"pipelines/createrun/action", "pipelineruns/cancel/action"}


@pytest.fixture
def checked(emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Check a connection to the emulator: the exit status, and the steps by their names."""

    def run(*arguments: str, **fields: str) -> tuple[int, dict[str, dict[str, Any]]]:
        connection = {"conn_type": "azure_data_factory_mi", "extra": emulator.connection_extra(**fields)}
        monkeypatch.setenv("AIRFLOW_CONN_ADF_HERE", json.dumps(connection))
        status = main(["check", "adf_here", "--json", *arguments])
        answer = json.loads(capsys.readouterr().out)
        assert answer["well"] is (status == 0)
        assert emulator.call(lambda: len(emulator.state().runs)) == 0, "a check starts nothing"
        return status, {step["step"]: step for step in answer["steps"]}

    return run


def test_healthy_factory_passes(checked: Run, emulator: Emulator) -> None:
    status, steps = checked("--pipeline", "Load")
    assert status == 0
    assert [step["holds"] for name, step in steps.items() if not name.startswith("may ")] == ["yes"] * 7
    assert {what: steps[f"may {what}"]["holds"] for what in ACTIONS.values()} == {
        "read the factory": "yes",
        "read pipelines": "yes",
        "start runs": "probably",
        "watch runs": "probably",
        "cancel runs": "probably",
        "find lost starts": "yes",
        "explain failures": "yes",
    }
    assert SYSTEM_ASSIGNED.object_id in steps["identity"]["detail"]
    assert emulator.books.count("createRun") == 1
    assert emulator.books.count("createRun", status=200) == 0
    assert emulator.books.count("cancelRun", status=200) == 0


def test_healthy_factory_gets_one_request_for_each_permission(settings: AdfSettings, emulator: Emulator) -> None:
    """So the check takes only seconds."""
    findings = check(settings, "Load")
    assert all_well(findings)
    asked = [record.operation for record in emulator.books.requests]
    assert len(asked) <= len(ACTIONS) + 2


@pytest.mark.parametrize("action", list(ACTIONS))
def test_missing_permission_is_named_with_its_fix(action: str, checked: Run, emulator: Emulator) -> None:
    emulator.tokens.denied = {SYSTEM_ASSIGNED.client_id: {action}}
    status, steps = checked("--pipeline", "Load")
    assert status == 1
    step = steps[f"may {ACTIONS[action]}"]
    assert (step["holds"], step["detail"]) == ("NO", f"Microsoft.DataFactory/factories/{action} is missing")
    assert step["fix"] == assignment_command(FACTORY_ID, SYSTEM_ASSIGNED.object_id)
    assert [other["holds"] for other in steps.values()].count("NO") == 1


FACTORY_ID = (
    "/subscriptions/11111111-1111-4111-8111-111111111111/resourceGroups/rg-test/providers/Microsoft.DataFactory/factories/"
    "adf-test"
)


def test_permission_stays_probable_if_the_service_checks_existence_first(checked: Run, emulator: Emulator) -> None:
    """Such a service does not show that these two permissions are missing, so the check reports "probably"."""
    emulator.state().switches.existence_first = True
    emulator.tokens.denied = {SYSTEM_ASSIGNED.client_id: CHANGES}
    status, steps = checked()
    assert status == 0
    assert steps["may start runs"]["holds"] == steps["may cancel runs"]["holds"] == "probably"


def test_existing_run_makes_the_permission_to_watch_certain(settings: AdfSettings, emulator: Emulator) -> None:
    emulator.call(lambda: emulator.state().create_run("Slow", None, client_request_id=None))
    (watch,) = [f for f in check(settings) if f.step == "may watch runs"]
    assert watch.holds is CheckStatus.YES
    assert emulator.call(lambda: [run.cancelled_at for run in emulator.state().runs.values()]) == [None]


def test_check_of_a_pipeline_counts_the_runs_that_policies_are_about(
    settings: AdfSettings, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def active_runs() -> list[str]:
        return [finding.detail for finding in check(settings, "slow") if finding.step == "active runs"]

    assert active_runs() == ["0, with no limit of concurrency"]
    state = emulator.state()
    monkeypatch.setitem(cast("dict[str, Any]", state._definition("Slow").properties), "concurrency", 1)
    for pipeline in ("Slow", "Slow", "Slow"):
        emulator.call(partial(state.create_run, pipeline, {}))
    emulator.clock.advance(3700)
    # One run has ended. A run of another pipeline is active, too.
    emulator.call(partial(state.create_run, "Load", {}))
    assert active_runs() == [
        "2, with concurrency 1; 1 of them queued. A task starts one more, unless its on_live_run says otherwise"
    ]
    emulator.tokens.denied = {SYSTEM_ASSIGNED.client_id: {"querypipelineruns/action"}}
    assert active_runs() == []


@pytest.mark.parametrize(
    ("arguments", "fields", "step", "expected"),
    [
        (["--factory", "adf-tset"], {}, "factory", r"there is no such factory.*Did you mean 'adf-test'"),
        (["--resource-group", "rg-x"], {}, "factory", r"There is a factory 'adf-test' in resource group 'rg-test'"),
        (["--pipeline", "Laod"], {}, "pipeline", r"no published pipeline 'Laod'.*Did you mean 'Load'"),
        (["--pipeline", "a/b"], {}, "pipeline", "not a name that Data Factory allows"),
        (
            [],
            {"managed_identity_client_id": "00000000-0000-4000-8000-00000000c0ff"},
            "token",
            r"c0ff.*is not assigned to the machine",
        ),
        ([], {"identity": "magic"}, "connection", "identity is 'magic'"),
        (["--cloud=AzureMoonCloud"], {}, "connection", "cloud_environment is 'AzureMoonCloud'; it must be one of"),
        (["--ca-bundle", "/nowhere.pem"], {}, "connection", "there is no such file"),
    ],
)
def test_wrong_option_or_field_is_named_with_its_fix(
    arguments: list[str], fields: dict[str, str], step: str, expected: str, checked: Run
) -> None:
    status, steps = checked(*arguments, **fields)
    assert status == 1
    assert steps[step]["holds"] == "NO"
    assert re.search(expected, steps[step]["detail"])


def test_check_ends_at_the_token_if_the_identity_endpoint_is_down(checked: Run, emulator: Emulator) -> None:
    emulator.add_fault("token", times=None, status=503)
    status, steps = checked()
    assert (status, list(steps)) == (1, ["connection", "token"])
    assert "asked of the instance metadata service" in steps["token"]["detail"]


def test_permission_is_unknown_if_the_service_does_not_answer(checked: Run, emulator: Emulator) -> None:
    emulator.add_fault("createRun", status=503)
    status, steps = checked()
    assert status == 1
    assert steps["may start runs"]["holds"] == "unknown"
    assert "gave no usable answer" in steps["may start runs"]["detail"]


def test_permission_is_unknown_if_the_refusal_has_another_reason(checked: Run, emulator: Emulator) -> None:
    emulator.add_fault("createRun", times=None, status=405, code="MethodNotAllowed")
    _, steps = checked()
    assert steps["may start runs"]["holds"] == "unknown"
    assert steps["may cancel runs"]["holds"] == "probably"


def test_check_without_a_factory_reports_that_none_was_checked(
    emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", *options(emulator, "subscription")]) == 0
    shown = capsys.readouterr().out
    assert re.search(
        r"^subscription  yes       11111111.*, where the identity sees 1 data factory$", shown, re.MULTILINE
    )
    assert "All well" not in shown
    assert "No factory was checked, because none is named" in shown


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--factory=adf-test"], "No resource_group_name: neither"),
        (["--resource-group=rg-test"], "No factory_name: neither"),
        (["--pipeline=Load"], "No resource_group_name and no factory_name"),
        (["--pipeline="], "No resource_group_name and no factory_name"),
    ],
    ids=str,
)
def test_check_fails_if_factory_or_resource_group_is_missing(
    arguments: list[str], expected: str, emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """Earlier, a check with a factory but no resource group silently ignored factory and pipeline."""
    assert main(["check", *options(emulator, "subscription"), *arguments]) == 1
    shown = capsys.readouterr().out
    assert re.search(rf"^factory     NO        {expected}", shown, re.MULTILINE)
    assert "Not all is well. Nothing was started." in shown


def test_empty_pipeline_name_is_refused(checked: Run) -> None:
    status, steps = checked("--pipeline", "")
    assert (status, steps["pipeline"]["holds"]) == (1, "NO")
    assert "pipeline_name is ''" in steps["pipeline"]["detail"]


def test_unknown_subscription_is_distinguished_from_a_missing_factory(checked: Run, emulator: Emulator) -> None:
    emulator.add_fault(
        "getFactory", status=404, code="SubscriptionNotFound", message="The subscription could not be found."
    )
    status, steps = checked()
    assert (status, list(steps)) == (1, ["connection", "token", "identity", "subscription"])
    assert steps["subscription"]["holds"] == "NO"
    assert "there is no subscription 11111111-1111-4111-8111-111111111111" in steps["subscription"]["detail"]


def test_connection_that_cannot_be_used_is_printed_in_one_line(
    emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """Earlier there were two lines, "connection yes" above "connection NO"."""
    arguments = options(emulator, "subscription", "resource-group", "arm-endpoint")
    assert main(["check", *arguments, "--ca-bundle=/nope"]) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("connection")]
    assert [line.split()[:2] for line in lines] == [["connection", "NO"]]


@pytest.mark.parametrize(
    "unused", [{"host": "arm.example"}, {"schema": "https"}, {"port": 443}, {"login": "me"}], ids=str
)
def test_check_refuses_what_a_task_refuses(
    unused: dict[str, Any], emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = {"conn_type": "azure_data_factory_mi", "extra": emulator.connection_extra(), **unused}
    monkeypatch.setenv("AIRFLOW_CONN_ADF_HERE", json.dumps(stored))
    assert main(["check", "adf_here", "--pipeline=Load"]) == 1
    (name,) = unused
    assert f"Connection 'adf_here': {name} is " in capsys.readouterr().out
    with pytest.raises(AdfConfigurationError, match=f"Connection 'adf_here': {name} is "):
        _ = AdfHook("adf_here").settings


@pytest.mark.parametrize(
    "text", ["{'conn_type': 'hush'}", '{"conn_type": "hush', "{hush}", '{"conn_type": "x", "port": "hush"}']
)
def test_unreadable_connection_variable_is_not_reported_as_missing(
    text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_ADF_HERE", text)
    assert main(["check", "adf_here"]) == 1
    printed = capsys.readouterr().out
    with pytest.raises(AdfConfigurationError) as refused:
        _ = AdfHook("adf_here").settings
    for shown in (printed, str(refused.value)):
        assert "cannot be read: the environment variable AIRFLOW_CONN_ADF_HERE is set" in shown
        assert "hush" not in shown


def test_check_prints_the_note_on_a_connection_of_the_providers_type(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log_once.cache_clear()
    stored = {"conn_type": "azure_data_factory", "extra": emulator.connection_extra(), "login": "app"}
    monkeypatch.setenv("AIRFLOW_CONN_ADF_HERE", json.dumps(stored))
    assert main(["check", "adf_here", "--json"]) == 0
    shown = capsys.readouterr()
    assert "Identity that is used: the system-assigned managed identity" in shown.err
    assert "Ignored: login." in shown.err
    assert json.loads(shown.out)["verdict"] == "All well. Nothing was started."


def test_user_assigned_identity_instead_of_the_system_assigned_one_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A machine without a system-assigned identity gives a token of its only user-assigned one."""
    log_once.cache_clear()
    with Emulator(FactorySpec(source=FACTORY), identities=[USER_ASSIGNED]) as emulator:
        for name, value in emulator.identity_environment("imds").items():
            monkeypatch.setenv(name, value)
        connection = {"conn_type": "azure_data_factory_mi", "extra": emulator.connection_extra()}
        monkeypatch.setenv("AIRFLOW_CONN_ADF_HERE", json.dumps(connection))
        main(["check", "adf_here"])
        shown = capsys.readouterr().out
        assert "given to the user-assigned managed identity 'airflow'. The connection names no identity" in shown
        assert f"put its client id {USER_ASSIGNED.client_id} into managed_identity_client_id" in shown
        assert "given to the system-assigned" not in shown
        assert "the user-assigned managed identity 'airflow'" in AdfHook("adf_here").test_connection()[1]
        emulator.tokens.denied = {USER_ASSIGNED.client_id: {"read"}}
        settings = AdfHook("adf_here").settings
        with (
            AdfClient(settings) as client,
            pytest.raises(AdfPermissionError, match=r"the user-assigned managed identity 'airflow' \(client id .*c002"),
        ):
            client.send(get_factory(settings.factory()))
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len([w for w in warnings if "gave a token of the user-assigned managed identity 'airflow'" in w]) == 1


def options(emulator: Emulator, *flags: str) -> list[str]:
    """The emulator's connection as options: `flags`, and its addresses."""
    extra = emulator.connection_extra()
    return [f"--{flag}={extra[FLAGS[flag]]}" for flag in (*flags, "arm-endpoint", "arm-scope", "ca-bundle")]


FLAGS = {
    "subscription": "subscriptionId",
    "resource-group": "resource_group_name",
    "arm-endpoint": "arm_endpoint",
    "arm-scope": "arm_scope",
    "ca-bundle": "ca_bundle",
}


def test_check_with_options_needs_no_connection(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    extra = emulator.connection_extra()
    arguments = [f"--{flag}={extra[field]}" for flag, field in FLAGS.items()]
    assert main(["check", "--factory=adf-test", f"--client-id={USER_ASSIGNED.client_id}", *arguments]) == 0
    shown = capsys.readouterr().out
    assert f"identity              yes       client id {USER_ASSIGNED.client_id}, object id" in shown
    assert "All well. Nothing was started." in shown
    assert {r.client_id for r in emulator.books.requests} == {USER_ASSIGNED.client_id}


def test_table_ends_with_the_commands_to_run(
    emulator: Emulator, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator.tokens.denied = {SYSTEM_ASSIGNED.client_id: CHANGES}
    connection = {"conn_type": "azure_data_factory_mi", "extra": emulator.connection_extra()}
    monkeypatch.setenv("AIRFLOW_CONN_ADF_HERE", json.dumps(connection))
    assert main(["check", "adf_here"]) == 1
    shown = capsys.readouterr().out
    assert shown.count("az role assignment create") == 1
    assert "Not all is well. Nothing was started." in shown


def test_unknown_connection_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "adf_nowhere"]) == 1
    assert "There is no connection 'adf_nowhere'" in capsys.readouterr().out


def test_program_runs_as_a_module_and_as_a_command() -> None:
    role = ["role", "--subscription", "S", "--resource-group", "RG", "--factory", "FACTORY"]
    for command in ([sys.executable, "-m", "airflow_adf_mi"], [str(Path(sys.executable).parent / "airflow-adf-mi")]):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([*command, *role], capture_output=True, text=True, check=True, env=environment)
        assert done.stdout.startswith("az role definition create")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "Commands:\n  check  Check a connection"),
        (["check"], "--identity [managed_identity|workload_identity|developer]"),
        (["check"], "Azure's cloud: AzurePublicCloud,"),
        (["role"], "--format [az|bicep|terraform]"),
    ],
    ids=str,
)
def test_help_lists_choices_and_exit_statuses(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for flag in ("-h", "--help"):
        assert main([*arguments, flag]) == 0
        shown = capsys.readouterr().out
        assert expected in shown
        assert "Exit status: 0 if all is well, 1 if not, 2 if the command line is wrong." in shown
        undescribed = [line for line in shown.splitlines() if re.fullmatch(r"  (-\w, )?--[a-z-]+( [A-Z]+)?", line)]
        assert undescribed == []


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"airflow-adf-mi, version {airflow_adf_mi.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["chekc"], "No such command 'chekc'"),
        (["check", "--piepline=x"], "--pipeline"),
        (["check", "--identity=magic"], "'magic' is not one of 'managed_identity'"),
        (["role", "--format=arm"], "'arm' is not one of 'az'"),
        (["check", "a", "b"], "unexpected extra argument"),
        (["check", "--client-id="], "Invalid value for '--client-id': the value is empty."),
        (["role", "--factory", " "], "Invalid value for '--factory': the value is empty."),
    ],
    ids=str,
)
def test_wrong_command_line_has_exit_status_2(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert expected in capsys.readouterr().err


def test_commands_that_need_no_airflow_do_not_import_it() -> None:
    code = "import sys; from airflow_adf_mi.cli import main; main(sys.argv[1:]); print([m for m in sys.modules if m in "
    # Some old packages of Azure import the empty package `azure` whenever Python starts.
    code += "('airflow', 'azure.core', 'aiohttp', 'requests')], file=sys.stderr)"
    role = ["role", "--subscription=S", "--resource-group=RG", "--factory=FACTORY"]
    for arguments in (["--version"], ["check", "-h"], role):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
        assert done.stderr == "[]\n"


def test_role_takes_its_scope_from_a_connection(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = {"conn_type": "azure_data_factory_mi", "extra": emulator.connection_extra()}
    for name in ("ADF_HERE", "AZURE_DATA_FACTORY_DEFAULT"):
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps(stored))
    for arguments in (["adf_here"], []):
        assert main(["role", *arguments]) == 0
        assert f"--scope {FACTORY_ID}" in capsys.readouterr().out
    assert main(["role", "adf_here", "--factory=adf-other"]) == 0
    assert "/factories/adf-other" in capsys.readouterr().out
    monkeypatch.setenv("AIRFLOW_CONN_ADF_HERE", json.dumps({"conn_type": "azure_data_factory_mi", "extra": {}}))
    assert main(["role", "adf_here"]) == 1
    assert "Connection 'adf_here': The connection has no subscriptionId" in capsys.readouterr().err


@pytest.mark.parametrize("form", FORMATS)
def test_role_contains_every_action_and_its_assignment(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--subscription=S", "--resource-group=RG", "--factory=FACTORY", "--principal-id=P1"]
    assert main(["role", f"--format={form}", *arguments]) == 0
    shown = capsys.readouterr().out
    for action in ACTIONS:
        assert f"Microsoft.DataFactory/factories/{action}" in shown
    assert "P1" in shown
    assert "ServicePrincipal" in shown
    assert shown.count("{") == shown.count("}")
    assert main(["role", "--subscription=S", "--resource-group=RG", "--factory=no_factory"]) == 1
    assert "factory_name is 'no_factory'" in capsys.readouterr().err


def test_docs_show_the_role() -> None:
    page = (ROOT / "docs" / "get-started.md").read_text()
    factory = FactoryRef(subscription_id="S", resource_group_name="RG", factory_name="FACTORY")
    assert definition_command(factory) in page
    assert assignment_command(factory.resource_id, "PRINCIPAL_ID") in page


def test_assignment_fits_the_kind_of_principal_and_is_quoted_for_a_shell() -> None:
    factory = FactoryRef(subscription_id="S", resource_group_name="rg(prod)", factory_name="adf")
    person = assignment_for(factory, {"oid": "O", "scp": "user_impersonation"})
    machine = assignment_for(factory, {"oid": "O"})
    assert shlex.split(person)[-5:] == ["O", "--assignee-principal-type", "User", "--scope", factory.resource_id]
    assert "--assignee-principal-type ServicePrincipal" in machine


def test_every_call_needs_an_action_of_the_role() -> None:
    source = Path(operations.__file__).read_text()
    assert set(re.findall(r'permission="([^"]+)"', source)) == set(ACTIONS)
