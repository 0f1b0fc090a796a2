"""What can go wrong, for tests that read what a user is told of it: a factory, what fails in it, and the exact texts.

The texts are the files of `tests/golden`, one a case; `GOLDEN=write` writes them anew, to be read before they are kept.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Any

from airflow_adf_mi.emulator import Emulator
from tests.conftest import ROOT, activity, factory_of

GOLDEN = ROOT / "tests" / "golden"
# With what an activity's message must not bring into any log.
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
            "CancelledWorkerLess",
            "Throttled",
            "Find",
            "Outputs",
            "UserBlocking",
            "UserDeferrable",
            "UserWorkerLess",
            "SystemBlocking",
            "SystemDeferrable",
            "SystemWorkerLess",
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
    **{f"ExplainCancelled{mode}/CopySales": {"seconds": 3600} for mode in ("", "Blocking", "Deferrable", "WorkerLess")},
    "ExplainOutputs/CopySales": {"output": {"rowsCopied": 42}},
    **{
        f"Explain{kind}{mode}/CopySales": {"outcome": "Failed", "error": {"failureType": f"{kind}Error"}}
        for kind in ("User", "System")
        for mode in ("Blocking", "Deferrable", "WorkerLess")
    },
}
FACTORY = factory_of(**PIPELINES)
SCRIPT: dict[str, Any] = {
    "defaults": {"seconds": 0.1},
    "pipelines": {name: {"queued_seconds": 0.05, "cancel_seconds": 0.1} for name in PIPELINES},
    "activities": ACTIVITIES,
}
_GUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


def general(text: str, emulators: Iterable[Emulator] = ()) -> str:
    """`text`, without what differs each time: ids by the pipelines' names, times and addresses."""
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
    """Nothing of what is planted in an activity's message is in `text`."""
    assert "planted" not in text
    assert "eyJ" not in text


def check_golden(name: str, text: str) -> None:
    """`text` is what is kept under `name`."""
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("GOLDEN") == "write":
        path.write_text(text + "\n")
    assert text + "\n" == path.read_text()
