"""Mutants of refusals: who refused, and what a refusal means for a start, a wait, a cancel, a check and a retry."""

from __future__ import annotations

from tests.mutants import Mutant

START = "tests/unit/adf/starting/test_create_run.py"
REFUSAL = "tests/unit/adf/api/test_refusal.py"
REFUSED = "tests/integration/test_refused.py"
NAME_SUGGESTIONS = "tests/unit/adf/test_name_suggestions.py"
RETRY = "tests/unit/test_retry.py"
SINGLE_RUN = "tests/unit/adf/waiting/test_single_run.py"
HTTP = "tests/integration/emulator/test_server.py"

MUTANTS = [
    Mutant("lock treated as a lost start", "adf/starting/create_run.py", "Verdict.REFUSED if is_refused else Verdict.AMBIGUOUS", "Verdict.AMBIGUOUS", f"{REFUSED} -k later_retry"),
    Mutant("conflict of Data Factory treated as a refusal", "adf/starting/create_run.py", "Verdict.REFUSED if is_refused else Verdict.AMBIGUOUS", "Verdict.REFUSED", f"{REFUSED} -k conflict_of_data_factory"),
    Mutant("header of the front door not checked", "adf/api/refusal.py", 'return code in FRONT_DOOR or (failure_cause or "").lower() == GATEWAY', "return code in FRONT_DOOR", REFUSAL),
    Mutant("header of the front door not kept in the error", "adf/api/refusal.py", 'failure_cause=_word(headers.get("x-ms-failure-cause"))', "failure_cause=None", f"{REFUSED} -k OfNextYear"),
    Mutant("redirect treated as a lost start", "adf/starting/create_run.py", "    if error.status in NOT_FOLLOWED_STATUSES:", "    if False:", f"{REFUSED} -k 307"),
    Mutant("page of a web filter treated as a refusal", "adf/starting/create_run.py", "if error.is_foreign and error.status in NOT_FORWARDED_STATUSES:", "if error.is_foreign:", f"{REFUSED} -k replaces_the_answer"),
    Mutant("gateway that requires a sign-in treated as a lost start", "adf/starting/create_run.py", "if error.is_foreign and error.status in NOT_FORWARDED_STATUSES:", "if False:", f"{REFUSED} -k sign_in"),
    Mutant("page treated as an answer of the service", "adf/api/refusal.py", "is_foreign=not is_from_arm,", "is_foreign=False,", f"{REFUSED} -k names_the_filter"),
    Mutant("page with the service's headers treated as its answer", "adf/api/refusal.py", "(not text.strip() and has_arm_headers)", "has_arm_headers", REFUSAL),
    Mutant("page quoted with its styles", "adf/api/refusal.py", "        if not self._hidden:", "        if True:", REFUSAL),
    Mutant("odd page raises an error of the parser", "adf/api/refusal.py", "    except AssertionError:", "    except ZeroDivisionError:", REFUSAL),
    Mutant("error without its envelope treated as a web filter's", "adf/api/refusal.py", "body if may_be_bare else None", "None", REFUSAL),
    Mutant("web filter's error treated as the service's", "adf/api/refusal.py", "body if may_be_bare else None", "body", REFUSAL),
    Mutant("redirect quoted with its secrets", "adf/api/refusal.py", "return urlsplit(address).hostname if address else None", "return address", REFUSAL),
    Mutant("role advised for every 403", "adf/api/error_mapping.py", "    if refusal.code not in MISSING_ROLE:", "    if False:", REFUSAL),
    Mutant("policy not named", "adf/api/refusal.py", "policies=tuple(dict.fromkeys(_policies(error))),", "policies=(),", REFUSAL),
    Mutant("unknown subscription treated as a missing factory", "adf/api/error_mapping.py", "isinstance(call.target, SubscriptionRef) or code in _SUBSCRIPTION_MISSING", "isinstance(call.target, SubscriptionRef)", f"{REFUSED} -k check_fails"),
    Mutant("refused token ends the start", "adf/starting/create_run.py", "if error.transient or error.refused_token else Verdict.REFUSED", "if error.transient else Verdict.REFUSED", f"{REFUSED} -k fresh_token"),
    Mutant("missing factory treated as a proven absence", "adf/starting/find_run.py", 'isinstance(seen, AdfNotFoundError) and seen.missing == "run"', "isinstance(seen, AdfNotFoundError)", f"{REFUSED} -k only_an_answer_about"),
    Mutant("page of a web filter tolerated for ever", "adf/retrying.py", "return error.status is not None and 300 <= error.status < 500 and error.status != 408", "return False", SINGLE_RUN),
    Mutant("page of a web filter ends a cancel at once", "adf/retrying.py", "AdfPermissionError | AdfUnavailableError)\n\n\ndef backoff", "AdfPermissionError)\n\n\ndef backoff", f"{REFUSED} -k cancel_is_sent_again"),
    Mutant("added text changes the original error", "adf/errors.py", "another = rebuilt(type(self), (text,), vars(self))", "another = self\n        another.args = (text,)", f"{REFUSED} -k shared_error"),
    Mutant("suggested names change the original error", "adf/name_suggestions.py", "return error.with_text(f\"{error} {suggestion}\") if suggestion else error", "error.args = (f\"{error} {suggestion}\",) if suggestion else error.args\n    return error", NAME_SUGGESTIONS),
    Mutant("added text loses the error's members", "adf/errors.py", "another = rebuilt(type(self), (text,), vars(self))", "another = rebuilt(type(self), (text,), {})", NAME_SUGGESTIONS),
    Mutant("added text shares the error's notes", "adf/errors.py", 'list(value) if name == "__notes__" else value', "value", NAME_SUGGESTIONS),
    Mutant("check takes a policy for a missing role", "adf/connection_check.py", "if isinstance(answer, AdfPermissionError) and answer.code in MISSING_ROLE:", "if isinstance(answer, AdfPermissionError):", f"{REFUSED} -k no_role"),
    Mutant("check reports what a web filter hides as missing", "adf/connection_check.py", "holds=CheckStatus.UNKNOWN, detail=str(error)) if is_foreign else", "holds=CheckStatus.NO, detail=str(error)) if is_foreign else", f"{REFUSED} -k check_reports_unknown"),
    Mutant("check leaves a lock unknown", "adf/connection_check.py", "answer.status == 403 or (", "(", f"{REFUSED} -k no_role"),
    Mutant("factory named twice", "adf/api/operations.py", 'where = "" if str(self.target) in self.doing else', "where =", REFUSAL),
    Mutant("missing factory retried", "retry.py", 'missing="subscription" | "factory" | "pipeline"', 'missing="pipeline"', RETRY),
    Mutant("malformed request retried", "retry.py", "_MALFORMED = frozenset({400, 413,", "_MALFORMED = frozenset({413,", RETRY),
    Mutant("full queue treated as a malformed request", "retry.py", "            case AdfQueueFullError():\n                return RetryDecision.default()\n", "", RETRY),
    Mutant("missing role retried for ever", "retry.py", "    if seconds >= FORBIDDEN_FOR.total_seconds():", "    if False:", RETRY),
    Mutant("missing role retried at once", "retry.py", "None if is_slow else FORBIDDEN_PAUSE,", "None,", RETRY),
    Mutant("longer delay shortened", "retry.py", "None if is_slow else FORBIDDEN_PAUSE,", "FORBIDDEN_PAUSE,", RETRY),
    Mutant("first 403 forgotten", "retry.py", "        store.set(FORBIDDEN_KEY, asdict(known))\n", "", RETRY),
    Mutant("403 from before a clear counted", "retry.py", " and of == self.max_tries", "", RETRY),
    Mutant("403s that are not in a row counted", "retry.py", "before in (self.try_number, self.try_number - 1)", "before is not None", RETRY),
    Mutant("invalid stored count of refusals used", "retry.py", " or not 0 <= since <= self.since", "", RETRY),
    Mutant("emulator: unknown subscription has an empty list of factories", "emulator/service/arm.py", '            self._check_subscription(where["subscription"])\n', "", HTTP),
    Mutant("emulator: resource group checked before the role", "emulator/service/arm.py", '            self._check_subscription(where["subscription"])\n', '            self._check_subscription(where["subscription"])\n            self._check_group(where)\n', HTTP),
    Mutant("answer of the front door treated as proof that there is no run", "adf/api/error_mapping.py", "if code is None or is_front_door(code, refusal.failure_cause):", "if False:", f"{REFUSED} -k only_an_answer_about"),
    Mutant("code of an answer quoted without masking", "adf/api/refusal.py", "return shown(value[:MOST_READ_CHARACTERS], LONGEST_WORD_CHARACTERS)", "return value[:MOST_READ_CHARACTERS]", "tests/unit/adf/api/test_refusal.py"),
]  # fmt: skip
