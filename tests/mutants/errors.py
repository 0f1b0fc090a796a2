"""Mutants of errors, and of the arguments that public methods accept and refuse."""

from __future__ import annotations

from tests.mutants import Mutant

ERRORS = "tests/unit/adf/test_errors.py"
EXCEPTIONS = "tests/unit/test_exceptions.py"
START = "tests/unit/adf/starting/test_create_run.py"
JSON_VALUES = "tests/unit/adf/test_json_values.py"
SENSOR = "tests/integration/test_sensors.py"
WRONG_ARGUMENTS = "tests/integration/test_wrong_arguments.py"
MOVING_OVER = "tests/contract/test_moving_over.py"
ADOPTION = "tests/contract/test_adoption_from_provider.py"

MUTANTS = [
    Mutant("errors pickled by Python's own rule", "adf/errors.py", "    def __reduce__(self)", "    def __no_reduce__(self)", ERRORS),
    Mutant("notes shared with a copy", "adf/errors.py", 'list(value) if name == "__notes__" else value', "value", ERRORS),
    Mutant("members of base classes forgotten", "adf/errors.py", "for base in reversed(kind.__mro__)", "for base in [kind]", ERRORS),
    Mutant("error of a start in triggerer mode loses its class", "adf/error_json.py", 'kind = vars(errors).get(stored["type"])', "kind = AdfError", ERRORS),
    Mutant("stored errors lose their members", "adf/error_json.py", "if stored.get(name) is not None", "if False", ERRORS),
    Mutant("notes of stored errors lost", "adf/error_json.py", "        error.add_note(note)\n", "        pass\n", ERRORS),
    Mutant("stored error of a later version raises", "adf/error_json.py", "except (AttributeError, KeyError, TypeError, ValueError):", "except TypeError:", ERRORS),
    Mutant("stored error with a class that is not an error raises", "adf/error_json.py", "if not isinstance(kind, type) or not issubclass(kind, AdfError):", "if kind is None:", ERRORS),
    Mutant("configuration error loses its type", "adf/error_json.py", "        error = kind(stored", "        error = AdfError(stored", "tests/unit/adf/reporting/test_report.py -k lasting"),
    Mutant("twins lose their members", "exceptions.py", "errors.rebuilt(kind, error.args, vars(error))", "errors.rebuilt(kind, error.args, {})", EXCEPTIONS),
    Mutant("twins lose their cause", "exceptions.py", "    twin.__cause__ = error.__cause__\n", "", EXCEPTIONS),
    Mutant("foreign error kept by a twin", "exceptions.py", "None if error.__suppress_context__ else error.__context__", "error.__context__", EXCEPTIONS),
    Mutant("every error shown twice", "exceptions.py", "            twin.__context__ = context\n", "            pass\n", EXCEPTIONS),
    Mutant("traceback does not show where the error was raised", "exceptions.py", "    return twin.with_traceback(error.__traceback__)", "    return twin", EXCEPTIONS),
    Mutant("twins serialized without members", "exceptions.py", '{"stored": members_to_json(self)}', "{}", EXCEPTIONS),
    Mutant("notes of serialized twins lost", "exceptions.py", "            self.add_note(note)\n", "            pass\n", EXCEPTIONS),
    Mutant("soft_fail hides a failed run after a deferral", "sensors.py", "if not self.soft_fail or", "if True or", f"{SENSOR} -k soft_fail"),
    Mutant("dates not converted to text", "adf/starting/start.py", 'object.__setattr__(self, "parameters", check_parameters(self.parameters))', "check_parameters(self.parameters)", START),
    Mutant("numbers that JSON does not have accepted", "adf/config/validation.py", "allow_nan=False, sort_keys=True)", "sort_keys=True)", START),
    Mutant("keys that cannot be sorted raise", "adf/config/validation.py", "allow_nan=False, sort_keys=True)", "allow_nan=False)", START),
    Mutant("values that contain themselves accepted", "adf/config/validation.py", "ArithmeticError, RecursionError)", "ArithmeticError)", START),
    Mutant("moments that UTC cannot represent raise", "adf/config/validation.py", "ValueError, ArithmeticError, RecursionError)", "ValueError, RecursionError)", START),
    Mutant("moments not converted to UTC", "adf/json_values.py", "else value.astimezone(UTC)", "else value", JSON_VALUES),
    Mutant("negative durations converted wrongly", "adf/json_values.py", '("-", -value) if value < timedelta()', '("", value) if value < timedelta()', JSON_VALUES),
    Mutant("window without a time zone accepted", "adf/config/validation.py", "or value.utcoffset() is None", "", f"{WRONG_ARGUMENTS} -k time_zone"),
    Mutant("window that is not a moment accepted", "adf/api/operations.py", 'check_moment("updated_before", before).isoformat()', "before.isoformat()", f"{WRONG_ARGUMENTS} -k time_zone"),
    Mutant("window of zero treated as no window", "hooks.py", "if after is None else after", "if not after else after", f"{WRONG_ARGUMENTS} -k time_zone"),
    Mutant("filters of any type accepted", "adf/api/operations.py", 'check_items("filters", filters)', "list(filters)", f"{WRONG_ARGUMENTS} -k hook"),
    Mutant("run ids of any type accepted, blocking", "hooks.py", "operations.get_run(factory, check_run_id(run_id))", "operations.get_run(factory, run_id)", f"{WRONG_ARGUMENTS} -k hook"),
    Mutant("run ids of any type accepted, on the loop", "async_hooks.py", "operations.get_run(factory, check_run_id(run_id))", "operations.get_run(factory, run_id)", f"{WRONG_ARGUMENTS} -k async"),
    Mutant("recursive of any type accepted", "adf/api/operations.py", 'check_flag("recursive", recursive)', "recursive", f"{WRONG_ARGUMENTS} -k hook"),
    Mutant("recovery of any type accepted", "adf/starting/start.py", "if not isinstance(self.recovery, Recovery):", "if False:", f"{WRONG_ARGUMENTS} -k hook"),
    Mutant("recovery with members of wrong types accepted", "adf/api/recovery.py", "                check(name, getattr(self, name))", "                pass", f"{WRONG_ARGUMENTS} -k recovery"),
    Mutant("connection id of any type accepted, blocking", "hooks.py", "conn_id = check_conn_id(self.azure_data_factory_conn_id)", "conn_id = self.azure_data_factory_conn_id", f"{WRONG_ARGUMENTS} -k connection_id"),
    Mutant("connection id of any type accepted, on the loop", "_airflow/connections.py", "conn_id = check_conn_id(azure_data_factory_conn_id)", "conn_id = azure_data_factory_conn_id", f"{WRONG_ARGUMENTS} -k connection_id"),
    Mutant("flags as text accepted", "adf/config/validation.py", "if not isinstance(value, bool):", "if False:", WRONG_ARGUMENTS),
    Mutant("correlation parameter of any type accepted", "operators.py", '            check_text("correlation_parameter", self.correlation_parameter)', "            pass", "tests/contract/test_provider.py -k parsed"),
    Mutant("core's errors leave a hook", "hooks.py", "    @airflow_errors()\n    def query_pipeline_runs(", "    def query_pipeline_runs(", WRONG_ARGUMENTS),
    Mutant("core's errors leave an operator", "operators.py", "    @airflow_errors()\n    def execute(", "    def execute(", f"{MOVING_OVER} -k failed_run"),
    Mutant("core's errors leave a resumed operator", "operators.py", "    @airflow_errors()\n    def execute_complete(", "    def execute_complete(", "tests/integration/_worker/test_resumed_attempt.py"),
    Mutant("core's errors leave execute_after of an operator", "operators.py", "    @airflow_errors()\n    def execute_after(", "    def execute_after(", "tests/integration/test_operators.py"),
    Mutant("core's errors leave resume_execution of an operator", "operators.py", "    @airflow_errors()\n    def resume_execution(", "    def resume_execution(", "tests/integration/test_operators.py"),
    Mutant("core's errors leave a sensor", "sensors.py", "    @airflow_errors()\n    def poke(", "    def poke(", f"{SENSOR} -k grace"),
    Mutant("core's errors leave the execute of a sensor", "sensors.py", "    @airflow_errors()  # noqa: RET503  defer() does not return\n", "", f"{WRONG_ARGUMENTS} -k sensor"),
    Mutant("core's errors leave a resumed sensor", "sensors.py", "    @airflow_errors()\n    def execute_complete(", "    def execute_complete(", f"{SENSOR} -k soft_fail"),
    Mutant("core's errors leave a Dag file", "operators.py", "    @airflow_errors()\n    def __init__(", "    def __init__(", WRONG_ARGUMENTS),
    Mutant("core's errors leave a sensor's constructor", "sensors.py", "    @airflow_errors()\n    def __init__(", "    def __init__(", WRONG_ARGUMENTS),
    Mutant("core's errors leave a retry policy", "retry.py", "    @airflow_errors()\n", "", "tests/unit/test_retry.py"),
    Mutant("run_id not set after a deferral", "_worker/results.py", "        self._task.run_id = report.address.run_id\n", "", f"{MOVING_OVER} -k run_id"),
    Mutant("run_id not set in a task that waits", "_worker/results.py", "        self._task.run_id = run_id\n", "", f"{MOVING_OVER} -k run_id"),
    Mutant("event of the provider's trigger read as ours", "adf/reporting/report.py", 'if "outcome" not in payload:', "if False:", f"{ADOPTION} -k sensor_that"),
    Mutant("task that the provider has deferred fails", "_worker/attempt.py", '        if "outcome" not in event:', "        if False:", f"{ADOPTION} -k provider_deferred"),
    Mutant("task that the provider has deferred starts a run", "_worker/attempt.py", "        if self._taken_over is not None:", "        if False:", f"{ADOPTION} -k continues_to_wait"),
    Mutant("notes that are null raise", "adf/error_json.py", "in stored.get(NOTES) or ():", "in stored.get(NOTES, ()):", ERRORS),
    Mutant("RunAddress of a later version not read", "adf/config/addresses.py", "return cls(**{**known_members(cls, stored), \"factory\": factory})", "return cls(**{**stored, \"factory\": factory})", "tests/contract/test_stored_names.py"),
    Mutant("text read as the members of a stored form", "adf/stored_forms.py", "    if not isinstance(stored, Mapping):", "    if False:", "tests/unit/adf/test_stored_forms.py"),
]  # fmt: skip
