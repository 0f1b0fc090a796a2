"""Mutants of errors, and of what the face accepts and refuses."""

from __future__ import annotations

from tests.mutants import Mutant

ERRORS = "tests/unit/test_errors.py"
EXCEPTIONS = "tests/unit/test_exceptions.py"
START = "tests/unit/test_start.py"
JSON_VALUES = "tests/unit/test_json_values.py"
SENSOR = "tests/integration/test_sensor.py"

MUTANTS = [
    Mutant("errors pickled by Python's own rule", "errors.py", "    def __reduce__(self)", "    def __no_reduce__(self)", ERRORS),
    Mutant("notes shared with a copy", "errors.py", 'list(value) if name == "__notes__" else value', "value", ERRORS),
    Mutant("members of base classes forgotten", "errors.py", "for base in reversed(kind.__mro__)", "for base in [kind]", ERRORS),
    Mutant("error of a worker-less start loses its class", "error_json.py", 'kind = vars(errors).get(stored["type"])', "kind = AdfError", ERRORS),
    Mutant("stored errors lose their members", "error_json.py", "if stored.get(name) is not None", "if False", ERRORS),
    Mutant("notes of stored errors lost", "error_json.py", "        error.add_note(note)\n", "        pass\n", ERRORS),
    Mutant("error of a later version ends the task otherwise", "error_json.py", "except (TypeError, KeyError, ValueError):", "except TypeError:", ERRORS),
    Mutant("name that is no error's", "error_json.py", "if not isinstance(kind, type) or not issubclass(kind, AdfError):", "if kind is None:", ERRORS),
    Mutant("configuration error loses its type", "error_json.py", "        error = kind(stored", "        error = AdfError(stored", "tests/unit/test_report.py -k lasting"),
    Mutant("twins lose their members", "../exceptions.py", "errors.rebuilt(kind, error.args, vars(error))", "errors.rebuilt(kind, error.args, {})", EXCEPTIONS),
    Mutant("twins lose their cause", "../exceptions.py", "    twin.__cause__ = error.__cause__\n", "", EXCEPTIONS),
    Mutant("foreign error kept by a twin", "../exceptions.py", "None if error.__suppress_context__ else error.__context__", "error.__context__", EXCEPTIONS),
    Mutant("every error shown twice", "../exceptions.py", "            twin.__context__ = context\n", "            pass\n", EXCEPTIONS),
    Mutant("traceback begins at the face", "../exceptions.py", "    return twin.with_traceback(error.__traceback__)", "    return twin", EXCEPTIONS),
    Mutant("twins serialized without members", "../exceptions.py", '{"stored": members_to_json(self)}', "{}", EXCEPTIONS),
    Mutant("notes of serialized twins lost", "../exceptions.py", "            self.add_note(note)\n", "            pass\n", EXCEPTIONS),
    Mutant("soft_fail hides a failed run after a deferral", "../sensors.py", "if not self.soft_fail or", "if True or", f"{SENSOR} -k softly"),
    Mutant("dates sent as they are", "start.py", 'object.__setattr__(self, "parameters", check_parameters(self.parameters))', "check_parameters(self.parameters)", START),
    Mutant("numbers that JSON has not", "checks.py", "allow_nan=False, sort_keys=True)", "sort_keys=True)", START),
    Mutant("keys that have no order", "checks.py", "allow_nan=False, sort_keys=True)", "allow_nan=False)", START),
    Mutant("values that hold themselves", "checks.py", "ArithmeticError, RecursionError)", "ArithmeticError)", START),
    Mutant("moments that UTC has not", "checks.py", "ValueError, ArithmeticError, RecursionError)", "ValueError, RecursionError)", START),
    Mutant("moments in local time", "json_values.py", "else value.astimezone(UTC)", "else value", JSON_VALUES),
    Mutant("negative durations garbled", "json_values.py", '("-", -value) if value < timedelta()', '("", value) if value < timedelta()', JSON_VALUES),
]  # fmt: skip
