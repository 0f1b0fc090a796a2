"""Mutants of identities and tokens."""

from __future__ import annotations

from tests.mutants import Mutant

SOURCES = "tests/unit/adf/auth/test_identity_sources.py"
IDENTITY = "tests/unit/adf/auth/test_credential.py"
EMULATED = "tests/integration/adf/auth/test_credential.py"

MUTANTS = [
    Mutant("token errors quoted with their secrets", "adf/auth/token_errors.py", "{shown(_quoted(error, answer), 400)}", "{_quoted(error, answer)[:400]}", f"{EMULATED} -k secret"),
    Mutant("warnings of azure-identity in the log", "adf/auth/azure_credentials.py", '("azure.identity", logging.ERROR)', '("azure.identity", logging.WARNING)', f"{EMULATED} -k secret"),
    Mutant("refused token replaced again after another request did so", "adf/auth/credential.py", "if all(token.token != refused for token in self._last.values()):", "if False:", IDENTITY),
    Mutant("token of another identity accepted", "adf/auth/token_errors.py", "got.lower() != wanted.lower()", "False", IDENTITY),
    Mutant("tokens requested in parallel", "adf/auth/credential.py", "        with self._lock:\n            failure", "        if True:\n            failure", IDENTITY),
    Mutant("failed token request repeated for each waiting caller", "adf/auth/credential.py", "                self._failed[asked] = self._clock(), failure\n", "", IDENTITY),
    Mutant("failed token request remembered for ever", "adf/auth/credential.py", "not 0 <= self._clock() - at < FAILURE_KEPT_SECONDS", "False", IDENTITY),
    Mutant("a thread for each caller on the loop", "adf/auth/async_credential.py", "asking = self._asking.get((scopes, claims))", "asking = None", IDENTITY),
    Mutant("token about to expire used on the loop", "adf/auth/async_credential.py", "> _FAST_PATH_LIFE", "> -1e9", IDENTITY),
    Mutant("trigger late because of a token request", "adf/auth/async_credential.py", "asyncio.wait([asking], timeout=self._patience)", "asyncio.wait([asking])", f"{IDENTITY} -k request_continues"),
    Mutant("silent identity endpoint waited for", "adf/auth/azure_credentials.py", "read_timeout=read_timeout, on_answer", "read_timeout=300, on_answer", f"{EMULATED} -k silence"),
    Mutant("silent identity endpoint requested twice", "adf/auth/azure_credentials.py", '"retry_read": 0', '"retry_read": 2', f"{EMULATED} -k silence"),
    Mutant("event loop blocked", "adf/auth/async_credential.py", "asking = asyncio.to_thread(self._credential.get_token_info, *scopes, options=options)", "asking = asyncio.sleep(0, self._credential.get_token_info(*scopes, options=options))", f"{IDENTITY} --timeout=20"),
    Mutant("fork shares the credential", "adf/auth/credential.py", "key = (os.getpid(),", "key = (0,", IDENTITY),
    Mutant("identity dropped by its source", "adf/auth/identity_sources.py", "field not in USABLE_NAMES[source]", "False", SOURCES),
    Mutant("system-assigned identity accepted under workload identity", "adf/auth/identity_sources.py", "source is Source.WORKLOAD_IDENTITY and is_unnamed", "False", SOURCES),
    Mutant("identity that is not assigned not explained", "adf/auth/token_causes.py", '"identity not found",', '"no such words",', EMULATED),
    Mutant("identity that is not assigned to an app not explained", "adf/auth/token_causes.py", '"no user assigned or delegated managed identity found",', '"no such words",', EMULATED),
    Mutant("several identities and no name not explained", "adf/auth/token_causes.py", '"multiple user assigned identities",', '"no such words",', EMULATED),
    Mutant("unreachable identity endpoint not explained", "adf/auth/token_errors.py", "if is_any_of(error, _UNREACHABLE):", "if False:", EMULATED),
    Mutant("refusal of IMDS treated as a fault", "adf/auth/token_errors.py", "status in (408, 410, 429) or status >= 500 or status < 400", "True", EMULATED),
    Mutant("fault of App Service treated as a refusal", "adf/auth/token_errors.py", "status in (408, 410, 429) or status >= 500 or status < 400", "False", EMULATED),
    Mutant("status of token requests not read", "adf/auth/azure_credentials.py", ", on_answer=keep", "", EMULATED),
]  # fmt: skip
