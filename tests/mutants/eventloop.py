"""Mutants of the code that keeps the event loop free, and of the texts of a wait."""

from __future__ import annotations

from tests.mutants import Mutant

REDACTION = "tests/unit/adf/test_redaction.py"
EXPLAIN_MANY = "tests/unit/adf/reporting/test_explain_many.py"
CLIENT = "tests/integration/adf/api/test_client.py"
ACTIVITIES = "tests/unit/adf/reporting/test_activity_log.py"
REPORT = "tests/unit/adf/reporting/test_report.py"
SINGLE_RUN = "tests/unit/adf/waiting/test_single_run.py"
OPERATOR = "tests/integration/test_operators.py"
TRIGGERER_MODE = "tests/integration/triggers/test_start_and_wait.py"

MUTANTS = [
    Mutant("text redacted before it is cut", "adf/redaction.py", "return _masked(text[: limit + MASKING_OVERLAP_CHARACTERS], limit)", "return _masked(text, limit)", f"{REDACTION} -k as_a_whole"),
    Mutant("part of a secret at the cut shown", "adf/redaction.py", "_masked(text[: limit + MASKING_OVERLAP_CHARACTERS], limit)", "_masked(text[:limit], limit)", f"{REDACTION} -k at_the_cut"),
    Mutant("text behind the cut shown", "adf/redaction.py", "return \"\".join([*parts, text[at:end]])", "return \"\".join([*parts, text[at:]])", f"{REDACTION} -k only_cut"),
    Mutant("values of connection strings searched again and again", "adf/redaction.py", "            at = value.end()\n", "            at = found.end()\n", f"{REDACTION} -k hostile --timeout=20"),
    Mutant("key of a function searched for without bounds", "adf/redaction.py", "'\\d]{0,127}+[^\\s&;\\\"']", "]*\\d", f"{REDACTION} -k hostile --timeout=20"),
    Mutant("password of an address searched for without bounds", "adf/redaction.py", "(?P<secret>[^\\s\\\"'@]{0,500}+", "(?P<secret>[^\\s\\\"']*", f"{REDACTION} -k hostile --timeout=20"),
    Mutant("token searched for from each beginning", "adf/redaction.py", "(?=[\\w-]*+\\.eyJ[\\w-]{2,}+(?:\\.|\\Z))", "", f"{REDACTION} -k hostile --timeout=20"),
    Mutant("token that was cut is shown", "adf/redaction.py", 'r"(?=[\\w-]{19,}+', 'r"(?!)(?=[\\w-]{19,}+', f"{REDACTION} -k by_the_service"),
    Mutant("message not cut when it is read", "adf/models.py", "return shown(value if isinstance", "return cap(value if isinstance", f"{REDACTION} -k megabyte"),
    Mutant("loops searched again for each failure", "adf/reporting/explain.py", "        is_named = message_of_run.names(row.activity_name)\n", "        loops = loops_of(other for other, _ in rows)\n        is_named = message_of_run.names(row.activity_name)\n", f"{EXPLAIN_MANY} -k grows"),
    Mutant("all causes built although few are shown", "adf/reporting/explain.py", "        if len(found.first) < MOST_CAUSES_SHOWN:\n", "        if True:\n", f"{EXPLAIN_MANY} -k turn"),
    Mutant("last container treated as the loop", "adf/reporting/explain.py", "loops.setdefault(inner[0], ", "loops.__setitem__(inner[0], ", f"{EXPLAIN_MANY} -k simple"),
    Mutant("many failures counted without a pause", "adf/reporting/explain.py", "        if number % ROWS_PER_TURN == 0:\n", "        if False:\n", f"{EXPLAIN_MANY} -k turn"),
    Mutant("odd answer quoted whole", "adf/reporting/explain.py", "cap(str(page) if isinstance(page, AdfError) else f\"unexpected answer {page!r}\")", "str(page) if isinstance(page, AdfError) else f\"unexpected answer {page!r}\"", f"{EXPLAIN_MANY} -k quoted"),
    Mutant("large answer read on the event loop", "adf/api/client.py", "if len(content) <= LARGE_ANSWER_BYTES:", "if True:", f"{CLIENT} -k in_a_thread"),
    Mutant("small answer read in a thread", "adf/api/client.py", "if len(content) <= LARGE_ANSWER_BYTES:", "if False:", f"{CLIENT} -k in_a_thread"),
    Mutant("long line not broken", "adf/reporting/activity_log.py", "return textwrap.fill(", "return line or textwrap.fill(", f"{ACTIVITIES} -k wrapped"),
    Mutant("address broken in two", "adf/reporting/activity_log.py", "break_long_words=False", "break_long_words=True", f"{ACTIVITIES} -k wrapped"),
    Mutant("thousands of lines logged", "adf/reporting/activity_log.py", "if len(changed) <= MOST_LINES_PER_QUERY else by_activity(changed)", "", f"{ACTIVITIES} -k too_many"),
    Mutant("running activities counted as done", "adf/reporting/activity_log.py", "{len(self.rows) - running} done", "{len(self.rows)} done", f"{ACTIVITIES} -k each_change"),
    Mutant("timeout without its length", "adf/reporting/report.py", "if outcome.deadline_reason else", "if False else", f"{REPORT} -k timeout"),
    Mutant("length of the timeout lost in the event", "adf/reporting/report.py", "deadline_reason=payload.get(\"deadline_reason\")", "deadline_reason=None", f"{REPORT} -k timeout"),
    Mutant("wrong word logged for the end of a run", "adf/waiting/single_run.py", "return _ENDS.get(status, ", "return dict[str, str]().get(status, ", SINGLE_RUN),
    Mutant("execution_timeout called timeout", "adf/waiting/deadlines.py", "Deadline(at=end, reason=f\"execution_timeout of {execution_timeout:g} s\")", "Deadline(at=end, reason=by_timeout.reason)", f"{OPERATOR} -k names_the_argument"),
    Mutant("length of the timeout lost on the way to the triggerer", "triggers/wait.py", "deadline=self.deadline, deadline_reason=self.deadline_reason", "deadline=self.deadline", "tests/integration/triggers/test_wait.py -k only_with_cancel_on_timeout"),
    Mutant("a thousand names compared without a pause", "adf/name_suggestions.py", "        if number % NAMES_BETWEEN_PAUSES == 0:\n", "        if False:\n", "tests/unit/adf/test_name_suggestions.py -k difflib"),
    Mutant("names that are not similar suggested", "adf/name_suggestions.py", ">= LEAST_LIKENESS for of in", ">= 0 for of in", "tests/unit/adf/test_name_suggestions.py -k difflib"),
    Mutant("answer that nests without end raises", "adf/api/responses.py", "    if isinstance(error, UNREADABLE):\n        # The official", "    if isinstance(error, ValueError):\n        # The official", f"{CLIENT} -k nests"),
    Mutant("encoded quote searched for from each backslash", "adf/redaction.py", "(?<!\\\\)(?P=encoded)", "(?P=encoded)", f"{REDACTION} -k hostile_quotes --timeout=20"),
    Mutant("name inside a value ignored", "adf/redaction.py", "                if later is not None and later.end() > at:", "                if False:", f"{REDACTION} -k wherever_its_name"),
    Mutant("last name in a value ignored", "adf/redaction.py", "_value_of(text, found) if found.end() >= at else ", "", f"{REDACTION} -k behind_a_bare_value"),
    Mutant("token shown that is cut in its second part", "adf/redaction.py", "(?P<secret>eyJ[\\w-]{16,}+(?:\\.[\\w-]{0,4})?\\Z)", "(?P<secret>eyJ[\\w-]{16,}+\\.?\\Z)", f"{REDACTION} -k second_part"),
]  # fmt: skip
