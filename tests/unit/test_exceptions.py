"""The public errors: twins of the core's errors that are AirflowExceptions."""

from __future__ import annotations

import json
import subprocess
import sys
import traceback

import airflow.exceptions
import pytest
from airflow.serialization.serialized_objects import BaseSerialization

import airflow_adf_mi
from airflow_adf_mi import exceptions
from airflow_adf_mi.adf import errors
from airflow_adf_mi.adf.errors import AdfError
from airflow_adf_mi.exceptions import TWINS, airflow_errors, to_airflow
from tests.support.every_error import CLASSES, known, made
from tests.support.minors import AirflowException, AirflowFailException, AirflowSkipException, TaskDeferred, needs

each_class = pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)


def test_airflow_exception_of_core_and_sdk_are_the_same() -> None:
    assert vars(airflow.exceptions)["AirflowException"] is AirflowException


@each_class
def test_every_class_has_a_public_twin_with_its_name(kind: type[AdfError]) -> None:
    twin = TWINS[kind]
    assert (twin.__name__, twin.__module__) == (kind.__name__, "airflow_adf_mi.exceptions")
    assert issubclass(twin, kind)
    assert issubclass(twin, AirflowException)
    assert not issubclass(twin, AirflowFailException), "Airflow would not retry"
    assert issubclass(twin, ValueError) == issubclass(kind, ValueError)
    assert getattr(airflow_adf_mi, kind.__name__) is twin
    assert kind.__name__ in airflow_adf_mi.__all__
    assert twin.__doc__


@each_class
def test_twins_have_the_same_hierarchy_as_the_classes_of_the_core(kind: type[AdfError]) -> None:
    assert {other for other in CLASSES if issubclass(TWINS[kind], TWINS[other])} == {
        other for other in CLASSES if issubclass(kind, other)
    }


@each_class
def test_twin_has_the_text_members_notes_and_cause(kind: type[AdfError]) -> None:
    error = made(kind)
    error.__cause__ = KeyError("cause")
    twin = to_airflow(error)
    assert (type(twin), known(twin)) == (TWINS[kind], known(error))
    assert twin.__cause__ is error.__cause__
    assert to_airflow(twin) is twin
    twin.add_note("of the twin")
    assert error.__notes__ == ["and a note"]


@each_class
def test_twin_stays_the_same_through_airflows_serialization(kind: type[AdfError]) -> None:
    twin = to_airflow(made(kind))
    stored = json.loads(json.dumps(BaseSerialization.serialize(twin)))
    again = BaseSerialization.deserialize(stored)
    assert (type(again), known(again)) == (type(twin), known(twin))


def test_error_of_a_users_subclass_becomes_the_twin_of_its_base_class() -> None:
    class Mine(errors.AdfPermissionError):
        pass

    assert type(to_airflow(Mine("no", status=403))) is exceptions.AdfPermissionError


def _shown(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def test_traceback_shows_once_where_the_error_was_raised() -> None:
    def raises() -> None:
        raise errors.AdfError("said by the core")

    with pytest.raises(exceptions.AdfError) as raised, airflow_errors():
        raises()
    assert _shown(raised.value).count("said by the core") == 2, "the line that raised it, and the error's text"
    assert "in raises" in _shown(raised.value)


def test_context_that_the_core_has_suppressed_is_not_shown() -> None:
    @airflow_errors()
    def asks() -> None:
        try:
            raise KeyError("Bearer secret")
        except KeyError:
            raise errors.AdfError("the service refused") from None

    with pytest.raises(exceptions.AdfError) as raised:
        asks()
    assert raised.value.__cause__ is None
    assert raised.value.__context__ is None
    assert "secret" not in _shown(raised.value)


def test_context_and_cause_that_the_core_keeps_are_shown() -> None:
    @airflow_errors()
    def asks() -> None:
        try:
            try:
                raise KeyError("first")
            except KeyError:
                raise errors.AdfError("second")  # noqa: B904  the context is what is tested
        except errors.AdfError as e:
            raise errors.AdfError("third") from e

    with pytest.raises(exceptions.AdfError) as raised:
        asks()
    shown = _shown(raised.value)
    places = [shown.index(text) for text in ("KeyError: 'first'", "AdfError: second", "AdfError: third")]
    assert places == sorted(places)
    assert "direct cause" in shown


@pytest.mark.parametrize(
    "error",
    [
        TaskDeferred(trigger=None, method_name="execute_complete"),
        AirflowSkipException("skip"),
        KeyError("a defect"),
        KeyboardInterrupt(),
        exceptions.AdfError("a twin already"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_other_exceptions_are_unchanged(error: BaseException) -> None:
    with pytest.raises(type(error)) as raised, airflow_errors():
        raise error
    assert raised.value is error
    assert raised.value.__context__ is None


@needs("TASK_STATE_STORE")
def test_import_of_an_error_imports_no_azure_package() -> None:
    code = """
import sys
from airflow_adf_mi import AdfRunFailed
print([m for m in sys.modules if m.split(".")[0] in ("azure", "aiohttp", "msal", "requests")])
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[-1] == "[]"
