"""What a run consumed, from both known forms of `billingReference`, and from forms that nobody knows."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_adf_mi.adf.models import ActivityRun
from airflow_adf_mi.adf.reporting.consumption import (
    LARGEST_DURATION,
    LONGEST_METER,
    MOST_METERS,
    Consumed,
    Consumption,
    consumption_of,
)


def row(reference: Any, name: str = "Copy") -> ActivityRun:
    return ActivityRun.from_wire(
        {"activityName": name, "status": "Succeeded", "output": {"billingReference": reference}}
    )


def new_form(meter: Any, duration: Any, unit: Any = "Hours", kind: Any = "PipelineActivity") -> dict[str, Any]:
    return {"activityType": kind, "billableDuration": [{"meterType": meter, "duration": duration, "unit": unit}]}


def amounts(*references: Any) -> list[tuple[str | None, str, str | None, float]]:
    found = consumption_of(map(row, references))
    assert found.left_out == 0
    return [(one.activity_type, one.meter, one.unit, one.duration) for one in found.meters]


# Microsoft's page about monitoring copies (2020) has the first one. A user published the second one, which is of a Get Metadata
# activity: a minute is 1 / 60 = 0.016666... hours.
OLDER = '{"activityType":"DataMovement","billableDuration":[{"Managed":11.733333333333336}]}'
NEWER = new_form("AzureIR", 0.016666666666666666)


def test_older_form_is_a_text_and_has_no_unit() -> None:
    # 11.733333333333336, rounded to 9 decimals.
    assert amounts(OLDER) == [("DataMovement", "Managed", None, 11.733333333)]


def test_newer_form_is_an_object_and_names_its_unit() -> None:
    assert amounts(NEWER) == [("PipelineActivity", "AzureIR", "Hours", 0.016666667)]


def test_each_form_may_be_a_text_or_an_object() -> None:
    assert amounts(json.loads(OLDER)) == amounts(OLDER)
    assert amounts(json.dumps(NEWER)) == amounts(NEWER)


def test_amounts_are_added_up_by_type_meter_and_unit() -> None:
    copied = new_form("AzureIR", 0.0667, "DIUHours", "DataMovement")
    flow = {
        "activityType": "executedataflow",
        "billableDuration": [
            {"meterType": "General", "duration": 0.4, "unit": "coreHour", "sessionType": "JobCluster"},
            {"meterType": "General", "duration": 0.2, "unit": "coreHour", "sessionType": "WarmCluster"},
        ],
    }
    external = new_form("AzureIR", 0.0167, kind="ExternalActivity")
    # DIU hours: 0.0667 + 0.0667 + 0.0667 = 0.2001. Core hours: 0.4 + 0.2 = 0.6. Older copies: 2 x 11.733333333333336 =
    # 23.466666666666672. The two meters AzureIR in hours stay apart, because they have different prices: 0.0167, and
    # 0.016666666666666666 + 0.05 = 0.066666666666666666.
    assert amounts(copied, OLDER, flow, copied, external, NEWER, OLDER, new_form("AzureIR", 0.05), copied) == [
        ("DataMovement", "AzureIR", "DIUHours", 0.2001),
        ("DataMovement", "Managed", None, 23.466666667),
        ("ExternalActivity", "AzureIR", "Hours", 0.0167),
        ("PipelineActivity", "AzureIR", "Hours", 0.066666667),
        ("executedataflow", "General", "coreHour", 0.6),
    ]


def test_activities_without_the_member_consumed_nothing() -> None:
    bare = ActivityRun.from_wire({"activityName": "Wait", "output": {}})
    assert consumption_of([bare, row(None), row({"billableDuration": []})]) == Consumption()


@pytest.mark.parametrize(
    "odd",
    [
        7,
        True,
        [],
        {},
        "",
        "{",
        "7",
        "[" * 100_000,
        {"billableDuration": None},
        {"billableDuration": {"Managed": 1}},
        {"billableDuration": ["Managed"]},
        {"billableDuration": [{}]},
        {"billableDuration": [{"Managed": "1"}]},
        {"billableDuration": [{"": 1}]},
        {"billableDuration": [{"duration": 1, "unit": "Hours"}]},
        '{"billableDuration": [{"Managed": NaN}]}',
        '{"billableDuration": [{"Managed": 1e999}]}',
        new_form("AzureIR", None),
        new_form("AzureIR", True),
        new_form("AzureIR", -0.1),
        new_form("AzureIR", LARGEST_DURATION * 1.01),
        new_form("AzureIR", 10**400),
        new_form("AzureIR", 1, unit=7),
        new_form(None, 1),
        new_form("x" * (LONGEST_METER + 1), 1),
    ],
    ids=lambda odd: repr(odd)[:40],
)
def test_odd_form_is_left_out_and_counted(odd: Any) -> None:
    found = consumption_of([row(NEWER), row(odd, "Odd"), row(odd, "Odder")])
    assert (found.left_out, found.left_out_of) == (2, "Odd")
    assert [one.duration for one in found.meters] == [0.016666667]


def test_type_that_is_no_name_is_not_known() -> None:
    assert amounts(new_form("AzureIR", 1, kind=7)) == [(None, "AzureIR", "Hours", 1)]


def test_names_can_be_stored_and_shown() -> None:
    text = json.dumps(new_form("Azure\x00IR", 1, kind="x?sig=" + "A" * 43 + "%3D"))
    (consumed,) = consumption_of([row(text)]).meters
    assert consumed.meter == "Azure\ufffdIR"
    assert "A" * 43 not in str(consumed.activity_type)


def test_there_are_not_more_meters_than_an_xcom_should_have() -> None:
    found = consumption_of(row(new_form(f"meter {number}", 1)) for number in [*range(MOST_METERS + 3), 0])
    assert (len(found.meters), found.left_out) == (MOST_METERS, 3)
    assert found.meters[0] == Consumed(activity_type="PipelineActivity", meter="meter 0", unit="Hours", duration=2)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([OLDER, "AzureIR", "Hours"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["activityType", "billableDuration", "meterType", "duration", "unit", "Managed"])
            | st.text(),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
REFERENCES = JSON | st.fixed_dictionaries({"activityType": JSON, "billableDuration": st.lists(JSON, max_size=4) | JSON})


@given(st.lists(REFERENCES | REFERENCES.map(json.dumps), max_size=5))
@example([new_form("AzureIR", LARGEST_DURATION)] * 5)
def test_odd_json_never_raises_and_the_result_can_be_stored(references: list[Any]) -> None:
    found = consumption_of(map(row, references))
    stored = json.loads(json.dumps([one.to_json() for one in found.meters], allow_nan=False))
    assert tuple(map(Consumed.from_json, stored)) == found.meters
    assert all(one.duration >= 0 and one.meter.strip() for one in found.meters)
