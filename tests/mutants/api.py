"""Mutants of api."""

from __future__ import annotations

from tests.mutants import Mutant

CLIENT = "tests/integration/test_client.py"
TRANSPORT = "tests/integration/test_transport.py"
EXPLAINED = "tests/integration/test_explained.py"
STATS = "tests/integration/test_stats.py"
ERROR_JSON = "tests/unit/test_error_json.py"

MUTANTS = [
    Mutant("createRun sent again by azure-core", "client.py", "if call.repeatable else 0", "if call.repeatable else 3", CLIENT),
    Mutant("resource provider registered on 409", "client.py", "            policies=policies(\n                RetryPolicy(), ARMChallengeAuthenticationPolicy(self._credential, settings.arm_scope), self._clock\n            ),\n", "", f"{CLIENT} -k never_sent_again"),
    Mutant("dropped answer taken for not sent", "translate.py", "never_sent=never_sent", "never_sent=True", CLIENT),
    Mutant("refused connection taken for ambiguous", "translate.py", "never_sent=never_sent", "never_sent=False", CLIENT),
    Mutant("revoked token not replaced", "answers.py", "return failure.refused_token is not None and", "return False and", CLIENT),
    Mutant("event loop blocked by the token lock", "client.py", "await asyncio.to_thread(\n                answers.forget_token, self._credential, answer\n            )", "answers.forget_token(self._credential, answer)", f"{CLIENT} -k block_the_loop --timeout=20"),
    Mutant("unreadable answer", "answers.py", "    except _UNREADABLE as e:", "    except ZeroDivisionError as e:", CLIENT),
    Mutant("hundreds of requests in one turn of the event loop", "client.py", "            await asyncio.sleep(0)\n", "            pass\n", f"{CLIENT} -k hold_up"),
    Mutant("refused token that another request has put back", "client.py", "OTHER_TOKENS = 3", "OTHER_TOKENS = 1", f"{CLIENT} -k put_back"),
    Mutant("answers quoted with their secrets", "translate.py", "return shown(str(message), 500)", "return str(message)[:500]", f"{CLIENT} -k secret"),
    Mutant("foreign error shown by the traceback", "client.py", "return answers.read_error(e, call, self._settings)", "return answers.given(answers.read_error(e, call, self._settings))", f"{CLIENT} -k secret"),
    Mutant("page of a proxy for an answer", "answers.py", "    if isinstance(error, _UNREADABLE):", "    if False:", CLIENT),
    Mutant("configuration error taken for unreadable", "answers.py", "    if isinstance(error, AdfError):", "    if False:", f"{CLIENT} -k cannot_give"),
    Mutant("run id that is no text", "models.py", "not isinstance(run_id, str) or not run_id.strip()", "False", CLIENT),
    Mutant("timeouts of minutes", "client.py", "read_timeout=read_timeout, verify", "read_timeout=300, verify", f"{CLIENT} -k silence"),
    Mutant("connection waited for, blocking", "transport.py", "connect_timeout: float = CONNECT_TIMEOUT", "connect_timeout: float = 300", f"{TRANSPORT} -k not_taken --timeout=30"),
    Mutant("connection waited for, on the loop", "client.py", "                connection_timeout=CONNECT_TIMEOUT,\n", "", f"{TRANSPORT} -k not_taken --timeout=30"),
    Mutant(".netrc, blocking", "transport.py", "    transport.session.auth = _leave_as_it_is\n", "", f"{TRANSPORT} -k netrc"),
    Mutant(".netrc, on the loop", "transport.py", "trust_env=False", "trust_env=True", f"{TRANSPORT} -k netrc"),
    Mutant("proxy not used on the loop", "client.py", "                proxies=proxies_for(settings.arm_endpoint),\n", "", f"{TRANSPORT} -k proxy"),
    Mutant("proxy used for what is exempt", "transport.py", 'if proxy and not proxy_bypass(url.hostname or "")', "if proxy", f"{TRANSPORT} -k proxy"),
    Mutant("Retry-After not read", "translate.py", 'retry_after=_retry_after(headers.get("Retry-After"))', "retry_after=None", f"{CLIENT} -k asks_for"),
    Mutant("pages not followed", "calls.py", "if page.continuation_token is None:", "if True:", CLIENT),
    Mutant("missing CA bundle", "transport.py", "not Path(settings.ca_bundle).is_file()", "False", CLIENT),
    Mutant("CA bundle without certificates", "transport.py", "    except OSError as e:", "    except ZeroDivisionError as e:", f"{CLIENT} -k ca_bundle"),
    Mutant("untrusted certificate", "translate.py", '"ssl.SSLCertVerificationError"', '"x"', f"{CLIENT} -k certificate"),
    Mutant("broken handshake taken for ambiguous", "translate.py", '        "aiohttp.client_exceptions.ClientConnectorSSLError",\n', "", f"{CLIENT} -k handshake"),
    Mutant("403 without its command", "translate.py", "if status == 403:", "if status == 4030:", CLIENT),
    Mutant("404 not told apart", "translate.py", "if status == 404 or code in call.not_found_codes:", "if status == 4040:", CLIENT),
    Mutant("429 not told apart", "translate.py", "if status == 429:", "if status == 4290:", CLIENT),
    Mutant("cancel of a finished run", "calls.py", '"PipelineRunNotRunning": False', '"Other": False', CLIENT),
    Mutant("configuration error loses its type", "error_json.py", "    AdfConfigurationError: (),\n    AdfCertificateError: (),\n", "", "tests/unit/test_report.py -k lasting"),
    Mutant("service's time by the machine's clock", "transport.py", "else time.monotonic() + self._ahead", "else time.time()", "tests/unit/test_service_clock.py"),
    Mutant("naive time breaks the order", "models.py", "return value if value.tzinfo is not None else value.replace(tzinfo=UTC)", "return value", "tests/unit/test_models.py"),
    Mutant("odd error of an activity", "models.py", "return value if isinstance(value, Mapping) else {}", "return value or {}", "tests/unit/test_models.py"),
    Mutant("403 without the principal", "translate.py", 'claims=principal(token_of(error) or "")', "claims={}", f"{CLIENT} -k missing_role"),
    Mutant("403 says everything twice", "translate.py", 'if code == "AuthorizationFailed" and', "if False and", f"{EXPLAINED} -k role_to_start"),
    Mutant("throttled request not counted", "answers.py", "if isinstance(error, AdfThrottledError):", "if False:", STATS),
    Mutant("broken metrics end a run", "../stats.py", "except Exception as e:", "except ZeroDivisionError as e:", STATS),
    Mutant("triggerer counts where nobody listens", "../stats.py", "    from airflow.observability import stats\n", "    from airflow.sdk.observability import stats\n", STATS),
    Mutant("cancel of a run that is over not counted", "answers.py", '            _count(call, "answered")\n            return call', "            return call", STATS),
    Mutant("worker-less start loses its error's type", "error_json.py", 'kind = _BY_NAME.get(stored["type"], AdfError)', "kind = AdfError", ERROR_JSON),
]  # fmt: skip
