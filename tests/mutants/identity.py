"""Mutants of identity."""

from __future__ import annotations

from tests.mutants import Mutant

SOURCES = "tests/unit/test_identity_sources.py"
IDENTITY = "tests/unit/test_identity.py"
EMULATED = "tests/integration/test_identity_emulated.py"

MUTANTS = [
    Mutant("token errors quoted with their secrets", "token_errors.py", "{shown(_quoted(error, answer), 400)}", "{_quoted(error, answer)[:400]}", f"{EMULATED} -k secret"),
    Mutant("warnings of azure-identity in the log", "token_requests.py", '("azure.identity", logging.ERROR)', '("azure.identity", logging.WARNING)', f"{EMULATED} -k secret"),
    Mutant("refused token replaced by somebody else", "identity.py", "if all(token.token != refused for token in self._last.values()):", "if False:", IDENTITY),
    Mutant("token of another identity", "token_errors.py", "got.lower() != wanted.lower()", "False", IDENTITY),
    Mutant("tokens asked for side by side", "identity.py", "        with self._lock:\n            failure", "        if True:\n            failure", IDENTITY),
    Mutant("failure asked for again by all who waited", "identity.py", "                self._failed[asked] = self._clock(), failure\n", "", IDENTITY),
    Mutant("failure kept for ever", "identity.py", "not 0 <= self._clock() - at < FAILURE_KEPT", "False", IDENTITY),
    Mutant("a thread for each who waits on the loop", "async_identity.py", "asking = self._asking.get((scopes, claims))", "asking = None", IDENTITY),
    Mutant("token about to expire used on the loop", "async_identity.py", "> _FAST_PATH_LIFE", "> -1e9", IDENTITY),
    Mutant("trigger late because of a token", "async_identity.py", "asyncio.wait([asking], timeout=self._patience)", "asyncio.wait([asking])", f"{IDENTITY} -k waits_long"),
    Mutant("silent identity endpoint waited for", "token_requests.py", "read_timeout=read_timeout, on_answer", "read_timeout=300, on_answer", f"{EMULATED} -k silence"),
    Mutant("silence waited through twice", "token_requests.py", '"retry_read": 0', '"retry_read": 2', f"{EMULATED} -k silence"),
    Mutant("event loop blocked", "async_identity.py", "asking = asyncio.to_thread(self._credential.get_token_info, *scopes, options=options)", "asking = asyncio.sleep(0, self._credential.get_token_info(*scopes, options=options))", f"{IDENTITY} --timeout=20"),
    Mutant("fork shares the credential", "identity.py", "key = (os.getpid(),", "key = (0,", IDENTITY),
    Mutant("identity dropped by its source", "identity_sources.py", "field not in USABLE_NAMES[source]", "False", SOURCES),
    Mutant("system-assigned under workload identity", "identity_sources.py", "source is Source.WORKLOAD_IDENTITY and is_unnamed", "False", SOURCES),
    Mutant("identity not assigned", "token_causes.py", '"identity not found",', '"no such words",', EMULATED),
    Mutant("identity not assigned to an app", "token_causes.py", '"no user assigned or delegated managed identity found",', '"no such words",', EMULATED),
    Mutant("several identities, none named", "token_causes.py", '"multiple user assigned identities",', '"no such words",', EMULATED),
    Mutant("identity endpoint unreachable", "token_errors.py", "if is_any_of(error, _UNREACHABLE):", "if False:", EMULATED),
    Mutant("refusal of IMDS taken for a fault", "token_errors.py", "status in (408, 410, 429) or status >= 500 or status < 400", "True", EMULATED),
    Mutant("fault of App Service taken for a refusal", "token_errors.py", "status in (408, 410, 429) or status >= 500 or status < 400", "False", EMULATED),
    Mutant("status of token requests not seen", "token_requests.py", ", on_answer=keep", "", EMULATED),
]  # fmt: skip
