"""Failures for tests that read the logs and errors of tasks: a factory, what fails in it, and the exact texts.

The texts are the files of `tests/golden`, one for each case. `GOLDEN=write` rewrites them; read them before you commit them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Any

from airflow_adf_mi.emulator import Emulator
from tests.conftest import ROOT, activity, factory_of

GOLDEN = ROOT / "tests" / "golden"
# With secrets that must not reach any log through an activity's message.
NO_TABLE = (
    "ErrorCode=SqlOperationFailed,'Type=Microsoft.DataTransfer.Common.Shared.HybridDeliveryException,Message=Cannot open "
    "https://lake.blob.core.windows.net/in?sp=r&sig=planted%2Fsecret=&sv=1 with AccountKey=planted==;Password=planted; "
    "Authorization: Bearer plantedplanted.planted; token eyJhbGciOiJub25lIn0.eyJzdWIiOiJwbGFudGVkIn0.c2VjcmV0'"
)


def calls(name: str, pipeline: str) -> dict[str, Any]:
    """An activity that runs another pipeline."""
    return activity(name, "ExecutePipeline", pipeline={"referenceName": pipeline}, waitOnCompletion=True)


PIPELINES: dict[str, list[dict[str, Any]] | dict[str, Any]] = {
    "ExplainSecure": {
        "activities": [activity("CopySales")],
        "parameters": {"key": {"type": "secureString"}, "day": {"type": "string"}},
    },
    "ExplainCopy": [activity("CopySales"), activity("Report", "Copy", "CopySales")],
    "ExplainParent": [calls("CallChild", "ExplainChild")],
    "ExplainChild": [calls("CallGrandchild", "ExplainGrandchild")],
    "ExplainGrandchild": [activity("CopySales")],
    "ExplainLoop": [activity("EachTable", "ForEach", items=[], activities=[activity("CopyTable")])],
    "ExplainSlow": [activity("CopySales")],
    **{
        f"Explain{name}": [activity("CopySales")]
        for name in (
            "Cancelled",
            "CancelledBlocking",
            "CancelledDeferrable",
            "CancelledTriggererMode",
            "Throttled",
            "Find",
            "Outputs",
            "UserBlocking",
            "UserDeferrable",
            "UserTriggererMode",
            "SystemBlocking",
            "SystemDeferrable",
            "SystemTriggererMode",
        )
    },
}
ACTIVITIES: dict[str, Any] = {
    "ExplainCopy/CopySales": {"outcome": "Failed", "error": {"message": NO_TABLE}},
    "ExplainSecure/CopySales": {"outcome": "Failed", "error": {"message": "no such table"}},
    "ExplainGrandchild/CopySales": {
        "outcome": "Failed",
        "error": {"message": "The integration runtime is busy.", "failureType": "SystemError", "errorCode": "2108"},
    },
    "ExplainLoop/EachTable": {"iterations": 20},
    "ExplainLoop/CopyTable": {
        "fail_iterations": [7],
        "error": {"message": "Invalid object name 'table7'.", "errorCode": "2100"},
    },
    "ExplainSlow/CopySales": {"seconds": 3600},
    **{
        f"ExplainCancelled{mode}/CopySales": {"seconds": 3600}
        for mode in ("", "Blocking", "Deferrable", "TriggererMode")
    },
    "ExplainOutputs/CopySales": {"output": {"rowsCopied": 42}},
    **{
        f"Explain{kind}{mode}/CopySales": {"outcome": "Failed", "error": {"failureType": f"{kind}Error"}}
        for kind in ("User", "System")
        for mode in ("Blocking", "Deferrable", "TriggererMode")
    },
}
FACTORY = factory_of(**PIPELINES)
SCRIPT: dict[str, Any] = {
    "defaults": {"seconds": 0.1},
    # On a busy machine, the first status check of a short timeout may be the only one. So no run is queued.
    "pipelines": {name: {"queued_seconds": 0, "cancel_seconds": 0.1} for name in PIPELINES},
    "activities": ACTIVITIES,
}
_GUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


def general(text: str, emulators: Iterable[Emulator] = ()) -> str:
    """`text` with placeholders for what differs from run to run: run ids, times and addresses."""
    for emulator in emulators:
        factory = emulator.state("adf-test")
        for ran in emulator.call(lambda factory=factory: list(factory.runs.values())):  # type: ignore[misc]  # of the loop
            text = text.replace(ran.run_id, f"<run of {ran.pipeline}>")
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "<time>", text)
    text = re.sub(rf"run {_GUID}", "run <id>", text)
    text = re.sub(r"after \d+ s", "after <n> s", text)
    text = re.sub(r"timeout of [\d.]+ s", "timeout of <n> s", text)
    return re.sub(r"127\.0\.0\.1:\d+", "<address>", text)


def assert_no_secret(text: str) -> None:
    """None of the secrets in an activity's message is in `text`."""
    assert "planted" not in text
    assert "eyJ" not in text


def check_golden(name: str, text: str) -> None:
    """`text` is that of the golden file `name`."""
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("GOLDEN") == "write":
        path.write_text(text + "\n")
    assert text + "\n" == path.read_text()
