"""Mutants of the clients and the counters."""

from __future__ import annotations

from tests.mutants import Mutant

CLIENT = "tests/integration/adf/api/test_client.py"
TRANSPORT = "tests/integration/adf/network/test_transport.py"
EXPLAINED = "tests/integration/adf/reporting/test_explain.py"
STATS = "tests/integration/_airflow/test_stats.py"

MUTANTS = [
    Mutant("createRun sent again by azure-core's retries", "adf/api/client.py", "if call.repeatable else 0", "if call.repeatable else 3", CLIENT),
    Mutant("resource provider registered on 409", "adf/api/client.py", "            policies=policies(\n                RetryPolicy(), ARMChallengeAuthenticationPolicy(self._credential, settings.arm_scope), self._clock\n            ),\n", "", f"{CLIENT} -k transport_never_sends"),
    Mutant("dropped answer treated as not sent", "adf/api/error_mapping.py", "never_sent=never_sent", "never_sent=True", CLIENT),
    Mutant("refused connection treated as ambiguous", "adf/api/error_mapping.py", "never_sent=never_sent", "never_sent=False", CLIENT),
    Mutant("revoked token not replaced", "adf/api/responses.py", "return failure.refused_token is not None and", "return False and", CLIENT),
    Mutant("event loop blocked by the token lock", "adf/api/client.py", "await asyncio.to_thread(\n                responses.forget_token, self._credential, answer\n            )", "responses.forget_token(self._credential, answer)", f"{CLIENT} -k block_the_loop --timeout=20"),
    Mutant("hundreds of requests sent in one turn of the event loop", "adf/api/client.py", "            await asyncio.sleep(0)\n", "            pass\n", f"{CLIENT} -k block_the_event_loop"),
    Mutant("refused token that another request has put back not replaced", "adf/api/client.py", "TOKEN_RETRIES = 3", "TOKEN_RETRIES = 1", f"{CLIENT} -k put_back"),
    Mutant("answers quoted with their secrets", "adf/api/refusal.py", "message=shown(str(message or reason)[:MOST_READ_CHARACTERS], MOST_QUOTED_CHARACTERS)", "message=str(message or reason)[:MOST_QUOTED_CHARACTERS]", f"{CLIENT} -k secret"),
    Mutant("foreign error shown by the traceback, blocking", "adf/api/client.py", "            return responses.parse_error(e, call, self._settings, self._route)\n        return responses.parse(call, body)\n\n\nclass", "            return responses.unwrap(responses.parse_error(e, call, self._settings, self._route))\n        return responses.parse(call, body)\n\n\nclass", f"{CLIENT} -k secret"),
    Mutant("foreign error shown by the traceback, async", "adf/api/client.py", "return responses.parse_error(e, call, self._settings, self._route, next(iter(statuses), None))", "return responses.unwrap(responses.parse_error(e, call, self._settings, self._route, next(iter(statuses), None)))", f"{CLIENT} -k secret"),
    Mutant("page of a proxy treated as an answer", "adf/api/responses.py", "    if isinstance(error, UNREADABLE):", "    if False:", CLIENT),
    Mutant("configuration error treated as unreadable", "adf/api/responses.py", "    if isinstance(error, AdfError):", "    if False:", f"{CLIENT} -k without_the_identity"),
    Mutant("run id that is not text accepted", "adf/models.py", "if not isinstance(value, str) or not value.strip() or len(value) > LONGEST_NAME:", "if False:", CLIENT),
    Mutant("silence of the service waited for over minutes", "adf/api/client.py", "(self._route, read_timeout=read_timeout)", "(self._route, read_timeout=300)", f"{CLIENT} -k silence"),
    Mutant("connection that is not accepted waited for over minutes, blocking", "adf/network/transport.py", "connect_timeout: float = CONNECT_TIMEOUT", "connect_timeout: float = 300", f"{TRANSPORT} -k not_accepted --timeout=30"),
    Mutant("connection that is not accepted waited for over minutes, on the loop", "adf/api/client.py", "                connection_timeout=CONNECT_TIMEOUT,\n", "", f"{TRANSPORT} -k not_accepted --timeout=30"),
    Mutant("Retry-After not read", "adf/api/refusal.py", 'retry_after=_seconds(headers.get("Retry-After"))', "retry_after=None", f"{CLIENT} -k 'retry_after_is_read or thread_requests'"),
    Mutant("pages not followed", "adf/api/paging.py", "        if token is None or token == \"\":", "        if True:", CLIENT),
    Mutant("403 without its command", "adf/api/error_mapping.py", "if status == 403:", "if status == 4030:", CLIENT),
    Mutant("404 not distinguished", "adf/api/error_mapping.py", "if status == 404 or code in call.not_found_codes:", "if status == 4040:", CLIENT),
    Mutant("429 not distinguished", "adf/api/error_mapping.py", "if status == 429:", "if status == 4290:", CLIENT),
    Mutant("cancel of a finished run raises", "adf/api/operations.py", '"PipelineRunNotRunning": False', '"Other": False', CLIENT),
    Mutant("time of the service taken from the machine's clock", "adf/network/transport.py", "else time.monotonic() + self._ahead", "else time.time()", "tests/unit/adf/network/test_transport.py"),
    Mutant("naive time breaks the order", "adf/times.py", "found if found.tzinfo is not None else found.replace(tzinfo=UTC)", "found", "tests/unit/adf/test_models.py"),
    Mutant("odd error of an activity raises", "adf/models.py", "return value if isinstance(value, Mapping) else {}", "return value or {}", "tests/unit/adf/test_models.py"),
    Mutant("403 without the principal", "adf/api/error_mapping.py", 'claims=principal(token_of(error) or "")', "claims={}", f"{CLIENT} -k missing_role"),
    Mutant("403 names identity and scope twice", "adf/api/error_mapping.py", 'if code == "AuthorizationFailed" and', "if False and", f"{EXPLAINED} -k role_to_start"),
    Mutant("throttled request not counted", "adf/api/responses.py", "if isinstance(error, AdfThrottledError):", "if False:", STATS),
    Mutant("failing counter ends a run", "_airflow/stats.py", "incr(name, amount, tags=tags)\n        except Exception as e:", "incr(name, amount, tags=tags)\n        except ZeroDivisionError as e:", STATS),
    Mutant("failing timer ends a run", "_airflow/stats.py", "except Exception as e:  # noqa: BLE001  a failed timing must not fail a run", "except ZeroDivisionError as e:", STATS),
    Mutant("triggerer counts with the stats of tasks", "_airflow/names.py", "        from airflow.observability import stats\n", "        from airflow.sdk.observability import stats\n", STATS),
    Mutant("cancel of a run that has ended not counted", "adf/api/responses.py", '            _count(call, "answered")\n            return call', "            return call", STATS),
]  # fmt: skip
