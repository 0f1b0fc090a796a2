"""The command `airflow-adf-mi`: what it names, that it starts nothing, and the role it prints."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_adf_mi.adf.checkup import Holds, all_well, check
from airflow_adf_mi.adf.role import ACTIONS, FORMATS, assignment_command, assignment_for, definition_command
from airflow_adf_mi.adf.settings import AdfSettings, FactoryRef
from airflow_adf_mi.cli import main
from airflow_adf_mi.emulator import Emulator
from airflow_adf_mi.emulator.tokens import SYSTEM_ASSIGNED, USER_ASSIGNED
from tests.conftest import ROOT

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


def test_healthy_factory(checked: Run, emulator: Emulator) -> None:
    status, steps = checked("--pipeline", "Load")
    assert status == 0
    assert [step["holds"] for name, step in steps.items() if not name.startswith("may ")] == ["yes"] * 6
    assert {what: steps[f"may {what}"]["holds"] for what in ACTIONS.values()} == {
        "look at the factory": "yes",
        "look at pipelines": "yes",
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


def test_healthy_factory_says_so_within_three_seconds(settings: AdfSettings, emulator: Emulator) -> None:
    began = time.monotonic()
    findings = check(settings, settings.factory(), "Load")
    assert time.monotonic() - began < 3
    assert all_well(findings)


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


def test_service_that_checks_existence_first_leaves_it_at_probably(checked: Run, emulator: Emulator) -> None:
    """What "probably" means: there, the lack of these two permissions does not show."""
    emulator.state().switches.existence_first = True
    emulator.tokens.denied = {SYSTEM_ASSIGNED.client_id: CHANGES}
    status, steps = checked()
    assert status == 0
    assert steps["may start runs"]["holds"] == steps["may cancel runs"]["holds"] == "probably"


def test_run_that_is_there_makes_the_answer_certain(settings: AdfSettings, emulator: Emulator) -> None:
    emulator.call(lambda: emulator.state().create_run("Slow", None, client_request_id=None))
    (watch,) = [f for f in check(settings, settings.factory()) if f.step == "may watch runs"]
    assert watch.holds is Holds.YES
    assert emulator.call(lambda: [run.cancelled_at for run in emulator.state().runs.values()]) == [None]


@pytest.mark.parametrize(
    ("arguments", "fields", "step", "said"),
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
        (["--ca-bundle", "/nowhere.pem"], {}, "connection", "there is no such file"),
    ],
)
def test_defect_is_named_with_its_fix(
    arguments: list[str], fields: dict[str, str], step: str, said: str, checked: Run
) -> None:
    status, steps = checked(*arguments, **fields)
    assert status == 1
    assert steps[step]["holds"] == "NO"
    assert re.search(said, steps[step]["detail"])


def test_identity_endpoint_that_is_down(checked: Run, emulator: Emulator) -> None:
    emulator.add_fault("token", times=None, status=503)
    status, steps = checked()
    assert (status, list(steps)) == (1, ["connection", "token"])
    assert "asked of the instance metadata service" in steps["token"]["detail"]


def test_service_that_gives_no_answer_leaves_it_open(checked: Run, emulator: Emulator) -> None:
    emulator.add_fault("createRun", status=503)
    status, steps = checked()
    assert status == 1
    assert steps["may start runs"]["holds"] == "unknown"
    assert "gave no usable answer" in steps["may start runs"]["detail"]


def test_without_a_factory_the_subscription_is_all(checked: Run, emulator: Emulator) -> None:
    emulator.tokens.denied = {}
    extra = {k: v for k, v in emulator.connection_extra().items() if k != "factory_name"}
    arguments = [f"--{flag}={extra[field]}" for flag, field in FLAGS.items()]
    assert main(["check", *arguments]) == 0


FLAGS = {
    "subscription": "subscriptionId",
    "resource-group": "resource_group_name",
    "arm-endpoint": "arm_endpoint",
    "arm-scope": "arm_scope",
    "ca-bundle": "ca_bundle",
}


def test_flags_do_without_a_connection(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    extra = emulator.connection_extra()
    arguments = [f"--{flag}={extra[field]}" for flag, field in FLAGS.items()]
    assert main(["check", "--factory=adf-test", f"--client-id={USER_ASSIGNED.client_id}", *arguments]) == 0
    shown = capsys.readouterr().out
    assert f"identity                 yes       client id {USER_ASSIGNED.client_id}, object id" in shown
    assert "All well. Nothing was started." in shown
    assert {r.client_id for r in emulator.books.requests} == {USER_ASSIGNED.client_id}


def test_table_ends_with_what_is_to_be_done(
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


def test_it_runs_as_a_module_and_as_a_command() -> None:
    role = ["role", "--subscription", "S", "--resource-group", "RG", "--factory", "FACTORY"]
    for command in ([sys.executable, "-m", "airflow_adf_mi"], [str(Path(sys.executable).parent / "airflow-adf-mi")]):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([*command, *role], capture_output=True, text=True, check=True, env=environment)
        assert done.stdout.startswith("az role definition create")


@pytest.mark.parametrize("form", FORMATS)
def test_role_holds_every_action_and_its_assignment(form: str, capsys: pytest.CaptureFixture[str]) -> None:
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


def test_readme_shows_this_role() -> None:
    readme = (ROOT / "README.md").read_text()
    factory = FactoryRef(subscription_id="S", resource_group_name="RG", factory_name="FACTORY")
    assert definition_command(factory) in readme
    assert assignment_command(factory.resource_id, "PRINCIPAL_ID") in readme


def test_assignment_is_for_the_kind_of_principal_and_safe_to_copy_into_a_shell() -> None:
    factory = FactoryRef(subscription_id="S", resource_group_name="rg(prod)", factory_name="adf")
    person = assignment_for(factory, {"oid": "O", "scp": "user_impersonation"})
    machine = assignment_for(factory, {"oid": "O"})
    assert shlex.split(person)[-5:] == ["O", "--assignee-principal-type", "User", "--scope", factory.resource_id]
    assert "--assignee-principal-type ServicePrincipal" in machine


def test_every_call_asks_for_an_action_of_the_role() -> None:
    source = (ROOT / "airflow_adf_mi" / "adf" / "calls.py").read_text()
    assert set(re.findall(r'permission="([^"]+)"', source)) == set(ACTIONS)
