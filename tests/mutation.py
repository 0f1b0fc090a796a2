"""`make mutation`: removes the handling of each fault and each bad input, and sees a test fail for it.

A row is: what is handled, the file, the code that handles it, what it becomes, and the tests that must notice.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.examples import ROOT

CLIENT = "tests/integration/test_client.py"
TRANSPORT = "tests/integration/test_transport.py"
TRIGGER = "tests/integration/test_trigger.py"
OWNED = "tests/integration/test_owned_run.py"
HOOKS = "tests/integration/test_hooks.py"
CONNECTION = "tests/unit/test_connection.py"
START = "tests/unit/test_start.py"
WATCH = "tests/unit/test_watch.py"
SOURCES = "tests/unit/test_identity_sources.py"
IDENTITY = "tests/unit/test_identity.py"
EMULATED = "tests/integration/test_identity_emulated.py"
SENSOR = "tests/integration/test_sensor.py"
DEFERRAL = "tests/integration/test_deferral.py"
OPERATOR = "tests/integration/test_operator.py"
KILLS = "tests/integration/test_kills.py"
JOURNAL = "tests/unit/test_journal.py"
BEGIN = "tests/unit/test_begin.py"
ROUNDS = "tests/unit/test_rounds.py"
TROUBLE = "tests/unit/test_trouble.py"
PROVIDER = "tests/contract/test_provider.py"
EXPLAIN = "tests/unit/test_explain.py"
EXPLAINED = "tests/integration/test_explained.py"
REPORT = "tests/unit/test_report.py"
STATS = "tests/integration/test_stats.py"
CLI = "tests/integration/test_cli.py"
NEAR = "tests/unit/test_near.py"
ACTIVITIES = "tests/unit/test_activity_log.py"
OUTPUTS = "tests/unit/test_outputs.py"
PUSHED = "tests/integration/test_outputs.py"
RETRY = "tests/unit/test_retry.py"
DATASETS = "tests/unit/test_lineage.py"
LINEAGE = "tests/integration/test_lineage.py"
HIDDEN = "tests/unit/test_hidden.py"
WORKER_LESS = "tests/integration/test_worker_less.py"
ON_A_WORKER = "tests/integration/test_worker_less_on_a_worker.py"
PLACEMENT = "tests/integration/test_placement.py"
RECALL = "tests/unit/test_recall.py"
PACE = "tests/unit/test_pace.py"
OUTLET = "tests/unit/test_outlet.py"
ERROR_JSON = "tests/unit/test_error_json.py"


@dataclass(frozen=True)
class Mutant:
    what: str
    file: str
    old: str
    new: str
    tests: str


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
    Mutant("answers quoted with their secrets", "translate.py", "return cap(redact(str(message)), 500)", "return cap(str(message), 500)", f"{CLIENT} -k secret"),
    Mutant("token errors quoted with their secrets", "token_errors.py", "{cap(redact(text), 400)}", "{cap(text, 400)}", f"{EMULATED} -k secret"),
    Mutant("foreign error shown by the traceback", "client.py", "return answers.read_error(e, call, self._settings)", "return answers.given(answers.read_error(e, call, self._settings))", f"{CLIENT} -k secret"),
    Mutant("warnings of azure-identity in the log", "token_requests.py", '("azure.identity", logging.ERROR)', '("azure.identity", logging.WARNING)', f"{EMULATED} -k secret"),
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
    Mutant("operator ended by Airflow first", "../attempt.py", "timeout=timedelta(seconds=seconds) + BACKSTOP", "timeout=timedelta(seconds=seconds)", DEFERRAL),
    Mutant("sensor ended by Airflow first", "../sensors.py", "timeout=timedelta(seconds=self.timeout) + BACKSTOP", "timeout=timedelta(seconds=self.timeout)", DEFERRAL),
    Mutant("operator without a deadline of its own", "../attempt.py", "deadline=plan.deadline,\n            owns_run", "deadline=None,\n            owns_run", DEFERRAL),
    Mutant("pages not followed", "calls.py", "if page.continuation_token is None:", "if True:", CLIENT),
    Mutant("missing CA bundle", "transport.py", "not Path(settings.ca_bundle).is_file()", "False", CLIENT),
    Mutant("CA bundle without certificates", "transport.py", "    except OSError as e:", "    except ZeroDivisionError as e:", f"{CLIENT} -k ca_bundle"),
    Mutant("untrusted certificate", "translate.py", '"ssl.SSLCertVerificationError"', '"x"', f"{CLIENT} -k certificate"),
    Mutant("broken handshake taken for ambiguous", "translate.py", '        "aiohttp.client_exceptions.ClientConnectorSSLError",\n', "", f"{CLIENT} -k handshake"),
    Mutant("403 without its command", "translate.py", "if status == 403:", "if status == 4030:", CLIENT),
    Mutant("403 of a subscription", "role.py", "    if isinstance(target, SubscriptionRef):", "    if False:", f"{CLIENT} -k role"),
    Mutant("role that is too wide", "role.py", 'ROLE_NAME = "ADF Pipeline Runner"', 'ROLE_NAME = "Data Factory Contributor"', f"{CLIENT} -k role"),
    Mutant("404 not told apart", "translate.py", "if status == 404 or code in call.not_found_codes:", "if status == 4040:", CLIENT),
    Mutant("429 not told apart", "translate.py", "if status == 429:", "if status == 4290:", CLIENT),
    Mutant("cancel of a finished run", "calls.py", '"PipelineRunNotRunning": False', '"Other": False', CLIENT),
    Mutant("lost answer not looked for", "start.py", "if verdict is Verdict.AMBIGUOUS:", "if False:", START),
    Mutant("throttled start not repeated", "start.py", "case AdfThrottledError():\n            return Verdict.NOT_STARTED", "case AdfThrottledError():\n            return Verdict.REFUSED", START),
    Mutant("another pipeline's run adopted", "find.py", "if run.pipeline_name.lower() != wanted.pipeline_name.lower():", "if False:", START),
    Mutant("start tried for ever", "start.py", "verdict is Verdict.REFUSED or clock() + pause > until", "verdict is Verdict.REFUSED", START),
    Mutant("failed look ends the wait", "watch.py", "now - refused_since >= REFUSAL_GRACE", "True", WATCH),
    Mutant("lasting refusal waited through", "watch.py", "now - refused_since >= REFUSAL_GRACE", "False", WATCH),
    Mutant("useless connection waited with", "watch.py", "        if is_for_good(seen):", "        if False:", WATCH),
    Mutant("certificate not waited for", "watch.py", " and not isinstance(error, AdfCertificateError)", "", WATCH),
    Mutant("configuration error loses its type", "error_json.py", "    AdfConfigurationError: (),\n    AdfCertificateError: (),\n", "", "tests/unit/test_report.py -k lasting"),
    Mutant("deadline not kept", "watch.py", "now >= plan.deadline", "False", WATCH),
    Mutant("Retry-After ignored", "watch.py", "return (retry_after or 0.0) + delay", "return delay", WATCH),
    Mutant("cancel not repeated", "watch.py", "not may_pass(answer) or clock() + pause > until", "True", WATCH),
    Mutant("cancel given up for a refused token", "watch.py", "not is_refusal(error) or refused_token or", "not is_refusal(error) or", f"{CLIENT} -k outlasts"),
    Mutant("cancel given up for a role that does not act yet", "watch.py", " or isinstance(error, AdfPermissionError)", "", WATCH),
    Mutant("refused token replaced by somebody else", "identity.py", "if all(token.token != refused for token in self._last.values()):", "if False:", IDENTITY),
    Mutant("kill with a refused token", "owned_run.py", "        return self._credential.forget_token(refused)", "        return False", f"{OWNED} -k kill_whose"),
    Mutant("unknown status not logged", "watch.py", "seen.status not in RunStatus.KNOWN", "False", WATCH),
    Mutant("timeout does not cancel", "reporting.py", "isinstance(outcome, TimedOut) and cancel_on_timeout", "False", TRIGGER),
    Mutant("watched run cancelled", "../triggers.py", "cancel_on_timeout=self.owns_run and self.cancel_on_timeout", "cancel_on_timeout=self.cancel_on_timeout", TRIGGER),
    Mutant("killed worker does not cancel", "owned_run.py", "            self._canceller.act(HANDLER_WAIT)\n", "            self._killed = False\n", OWNED),
    Mutant("kill waits for the token lock", "owned_run.py", "            if token is not None and token.token not in self._refused:", "            if False:", OWNED),
    Mutant("kill waits for a new token", "owned_run.py", ", self._credential.given_up_token(*scopes)):", ",):", OWNED),
    Mutant("kill cancels where told not to", "owned_run.py", "if not self._cancel_on_kill:", "if False:", OWNED),
    Mutant("token of another identity", "token_errors.py", "got.lower() != wanted.lower()", "False", IDENTITY),
    Mutant("tokens asked for side by side", "identity.py", "        with self._lock:\n            failure", "        if True:\n            failure", IDENTITY),
    Mutant("failure asked for again by all who waited", "identity.py", "                self._failed[asked] = self._clock(), failure\n", "", IDENTITY),
    Mutant("failure kept for ever", "identity.py", "not 0 <= self._clock() - at < FAILURE_KEPT", "False", IDENTITY),
    Mutant("a thread for each who waits on the loop", "async_identity.py", "asking = self._asking.get((scopes, claims))", "asking = None", IDENTITY),
    Mutant("token about to expire used on the loop", "async_identity.py", "> _FAST_PATH_LIFE", "> -1e9", IDENTITY),
    Mutant("sensor without a link", "../sensors.py", "        AdfPipelineRunLink.store(context, address.studio_url)\n", "", f"{SENSOR} -k softly"),
    Mutant("trigger late because of a token", "async_identity.py", "asyncio.wait([asking], timeout=self._patience)", "asyncio.wait([asking])", f"{IDENTITY} -k waits_long"),
    Mutant("silent identity endpoint waited for", "token_requests.py", "read_timeout=read_timeout, on_status", "read_timeout=300, on_status", f"{EMULATED} -k silence"),
    Mutant("silence waited through twice", "token_requests.py", '"retry_read": 0', '"retry_read": 2', f"{EMULATED} -k silence"),
    Mutant("event loop blocked", "async_identity.py", "asking = asyncio.to_thread(self._credential.get_token_info, *scopes, options=options)", "asking = asyncio.sleep(0, self._credential.get_token_info(*scopes, options=options))", f"{IDENTITY} --timeout=20"),
    Mutant("fork shares the credential", "identity.py", "key = (os.getpid(),", "key = (0,", IDENTITY),
    Mutant("identity dropped by its source", "identity_sources.py", "field not in USABLE_NAMES[source]", "False", SOURCES),
    Mutant("system-assigned under workload identity", "identity_sources.py", "source is Source.WORKLOAD_IDENTITY and not identity.names()", "False", SOURCES),
    Mutant("identity not assigned", "token_errors.py", '"identity not found",', '"no such words",', EMULATED),
    Mutant("identity not assigned to an app", "token_errors.py", '"no user assigned or delegated managed identity found",', '"no such words",', EMULATED),
    Mutant("several identities, none named", "token_errors.py", '"multiple user assigned identities",', '"no such words",', EMULATED),
    Mutant("identity endpoint unreachable", "token_errors.py", "unreachable = any(type(e).__name__ in _UNREACHABLE for e in _chain(error))", "unreachable = False", EMULATED),
    Mutant("no subscription", "settings.py", "if not self.subscription_id:", "if False:", CONNECTION),
    Mutant("two ways of naming", "settings.py", "if len(names) > 1:", "if False:", CONNECTION),
    Mutant("unknown identity", "connection.py", "return IdentityKind(chosen)", "return IdentityKind.MANAGED_IDENTITY", CONNECTION),
    Mutant("unknown cloud", "connection.py", "return by_lower_name[name.lower()]", "return by_lower_name.get(name.lower(), PUBLIC_CLOUD)", CONNECTION),
    Mutant("unknown field", "connection.py", "if name not in FIELDS:", "if False:", CONNECTION),
    Mutant("http endpoint", "settings.py", 'url.scheme != "https" or', "", CONNECTION),
    Mutant("client secret", "connection.py", "    if password:", "    if False:", CONNECTION),
    Mutant("workload identity by object id", "settings.py", "and self.kind is IdentityKind.WORKLOAD_IDENTITY", "and False", CONNECTION),
    Mutant("address that is none", "settings.py", "        except ValueError as e:", "        except ZeroDivisionError as e:", CONNECTION),
    Mutant("port that is none", "settings.py", "            _ = url.port\n", "", CONNECTION),
    Mutant("host, schema, port ignored silently", "connection.py", "        if not value:\n", "        if True:\n", CONNECTION),
    Mutant("schema and port not looked at", "../hooks.py", "        schema=connection.schema,\n        port=connection.port,\n", "", HOOKS),
    Mutant("templated None taken for a name", "checks.py", """in ("", "None"))""", """in ("",))""", CONNECTION),
    Mutant("templated number refused as a name", "checks.py", "isinstance(value, str | int | float)", "isinstance(value, str)", CONNECTION),
    Mutant("templated number refused as a pipeline", "../arguments.py", 'name_as_text("pipeline_name", given.pipeline_name)', "given.pipeline_name", f"{PROVIDER} -k native"),
    Mutant("missing factory", "settings.py", "        if missing:", "        if False:", CONNECTION),
    Mutant("bad pipeline name", "checks.py", "not isinstance(name, str) or not _PIPELINE_NAME.fullmatch(name)", "False", START),
    Mutant("parameters no mapping", "checks.py", "if not isinstance(parameters, Mapping):", "if False:", START),
    Mutant("parameters not JSON", "checks.py", "json.dumps(value, allow_nan=False)", "str(value)", START),
    Mutant("no positive seconds", "checks.py", "or value <= 0", "", PROVIDER),
    Mutant("more seconds than Airflow can add", "checks.py", "    if value > YEAR:", "    if False:", f"{PROVIDER} -k 'bad_argument or would_never'"),
    Mutant("parameters not checked when parsed", "../operators.py", "            check_parameters(static_part(self.parameters))", "            check_parameters(None)", f"{PROVIDER} -k parsed"),
    Mutant("template in a parameter refused", "checks.py", "value if _is_static_throughout(value) else None", "value", f"{PROVIDER} -k templates_are"),
    Mutant("Dag's parameter refused", "checks.py", 'not hasattr(value, "iter_references") and', "", f"{PROVIDER} -k templates_are"),
    Mutant("no run id", "../sensors.py", "        if is_static(run_id):", "        if False:", f"{PROVIDER} -k no_run_id"),
    Mutant("message cut twice", "report.py", "PipelineRun.from_essentials", "PipelineRun.from_wire", "tests/unit/test_report.py -k cut"),
    Mutant("contradicting recovery", "recovery.py", "if self.start_activity_name and self.start_from_failure:", "if False:", START),
    Mutant("recovery without a reference", "recovery.py", "if self.is_recovery and not self.reference_pipeline_run_id:", "if False:", START),
    Mutant("connection not found", "../hooks.py", "raise no_such_connection(self.azure_data_factory_conn_id) from e", "raise", HOOKS),
    Mutant("grace of a refusal forgotten between looks", "../sensors.py", "        self._remember(context, before, self._watching)\n        if", "        if", SENSOR),
    Mutant("grace of another try counted", "../sensors.py", "if not isinstance(stored, dict) or", "if False and", SENSOR),
    Mutant("grace outlives its outcome", "../sensors.py", "            self._remember(context, before, Watching())\n", "", SENSOR),
    Mutant("never_fail in the triggerer", "../sensors.py", "        except AdfError as e:", "        except ZeroDivisionError as e:", f"{SENSOR} -k softly"),
    Mutant("never_fail at the timeout", "../sensors.py", "                if self.never_fail:", "                if False:", f"{SENSOR} -k softly"),
    Mutant("failing store ends the sensor", "../sensors.py", "        except Exception as e:  # noqa: BLE001  as above", "        except ZeroDivisionError as e:", SENSOR),
    Mutant("failed XCom orphans the run", "../results.py", "        except Exception as e:  # noqa: BLE001", "        except ZeroDivisionError as e:  # noqa: BLE001", OPERATOR),
    Mutant("run id that is lost", "../attempt.py", "if not isinstance(run_id, str) or not run_id:", "if False:", OPERATOR),
    Mutant("trigger failure taken for a timeout", "../operators.py", "except TaskDeferralTimeout:", "except (TaskDeferralTimeout, TaskDeferralError):", OPERATOR),
    Mutant("refusal of IMDS taken for a fault", "token_errors.py", "status in (408, 410, 429) or status >= 500 or status < 400", "True", EMULATED),
    Mutant("fault of App Service taken for a refusal", "token_errors.py", "status in (408, 410, 429) or status >= 500 or status < 400", "False", EMULATED),
    Mutant("status of token requests not seen", "token_requests.py", ", on_status=statuses.append", "", EMULATED),
    Mutant("credentials in messages", "redact.py", 'return _JWT.sub(_MASK, text)', "return text", "tests/unit/test_models.py"),
    Mutant("retry starts a second run", "intent.py", "return Find(intent=stored) if stored.phase is Phase.SENDING else Follow(intent=stored)", "return Fresh()", BEGIN),
    Mutant("clear adopts the old run", "intent.py", "before.max_tries != now.max_tries or", "", BEGIN),
    Mutant("clear of a running task adopts", "intent.py", "(before.clear_number != now.clear_number and not stored.failed)", "False", BEGIN),
    Mutant("clear of another task taken for ours", "intent.py", "and not stored.failed)", ")", BEGIN),
    Mutant("changed parameters adopt", "intent.py", "or stored.fingerprint != wanted", "", BEGIN),
    Mutant("unreadable intent taken for none", "intent.py", "    run_id, key = (_guid(stored, name)", "    return None\n    run_id, key = (_guid(stored, name)", BEGIN),
    Mutant("obsolete run not cancelled", "begin.py", "if cancel and seen.status != RunStatus.CANCELING:", "if False:", BEGIN),
    Mutant("obsolete run overlapped", "begin.py", "            if remaining is not None:", "            if False:", BEGIN),
    Mutant("obsolete run that cannot be seen ignored", "begin.py", "    if isinstance(seen, AdfError):\n        raise AdfError(", "    if isinstance(seen, AdfError):\n        return None\n        raise AdfError(", BEGIN),
    Mutant("run that came to nothing adopted", "begin.py", "run.status in (RunStatus.FAILED, RunStatus.CANCELLED)", "False", BEGIN),
    Mutant("run that is being cancelled adopted", "begin.py", "run.status == RunStatus.CANCELING and not same_try:", "False:", BEGIN),
    Mutant("sent before it is written down", "start.py", "            yield save(sending)\n", "", BEGIN),
    Mutant("blind start", "start.py", "and intent.key_honoured:", ":", BEGIN),
    Mutant("absence that is proven not used", "start.py", "and intent.key_honoured:", "and False:", BEGIN),
    Mutant("on_ambiguous_start ignored", "start.py", 'if start.on_ambiguous == "start":', "if False:", BEGIN),
    Mutant("first that looks the same adopted", "start.py", "complete and len(look.possible) == 1", "complete and look.possible", BEGIN),
    Mutant("sibling's run adopted", "find.py", "if run.run_id not in claimed", "if True", BEGIN),
    Mutant("claim of a sibling not heeded", "start.py", "or (yield claim(found.run_id))", "or True", BEGIN),
    Mutant("other parameters' run adopted", "find.py", "return Likeness.POSSIBLE if same else Likeness.NO", "return Likeness.POSSIBLE", BEGIN),
    Mutant("own earlier run adopted", "find.py", "if run.run_id in intent.earlier:", "if False:", BEGIN),
    Mutant("clocks taken to agree", "find.py", "intent.at + now - clock()", "intent.at", BEGIN),
    Mutant("correlation parameter not looked at", "find.py", "    if wanted.correlation_parameter is not None:", "    if False:", BEGIN),
    Mutant("store that fails does not stop the start", "../journal.py", "            raise AdfError(\n                f\"What is about", "            return\n            raise AdfError(\n                f\"What is about", OPERATOR),
    Mutant("trigger's failure not taken up", "../attempt.py", "stored.trigger_failures >= TRIGGER_FAILURES", "True", OPERATOR),
    Mutant("deadline of a wait begun anew", "../attempt.py", "deadline=intent.deadline or deadline", "deadline=deadline", OPERATOR),
    Mutant("execution_timeout after Airflow's", "../attempt.py", "- (0 if self._task.deferrable else min(2.0, limit / 10))", "+ 60", OPERATOR),
    Mutant("execution_timeout cancels as a kill", "../attempt.py", "owned_run.overdue(cancel=self._task.cancel_on_timeout)", "pass", OPERATOR),
    Mutant("kill cancels what a retry takes over", "owned_run.py", "        if self._goes_on():", "        if False:", OWNED),
    Mutant("kill at the begin forgets the known run", "owned_run.py", "self.latest = None if known is None or known.phase is Phase.PREPARED else known", "self.latest = None", OPERATOR),
    Mutant("killed task sends all the same", "owned_run.py", "        self._check()", "        pass", OWNED),
    Mutant("kill of a trigger taken over cancels", "../kills.py", "if state not in OVER:", "if False:", KILLS),
    Mutant("kill of a marked task does not cancel", "../kills.py", "if state not in OVER:", "if True:", KILLS),
    Mutant("kill interrupted by Airflow", "../triggers.py", "await asyncio.shield(killing)", "await killing", KILLS),
    Mutant("kill without on_kill does nothing", "../triggers.py", "if was_killed(self, e):", "if False:", KILLS),
    Mutant("restart of a triggerer taken for a kill", "../triggers.py", "if was_killed(self, e):", "if True:", KILLS),
    Mutant("state asked for once only", "../kills.py", "            if time.monotonic() > until:\n                raise", "            raise", KILLS),
    Mutant("mass kill asks for each task", "../kills.py", "if key not in kills.asked:", "if True:", KILLS),
    Mutant("eviction cancels", "../journal.py", "not in STOPPED", "is None", JOURNAL),
    Mutant("kill of a marked task leaves its run", "../journal.py", "not in STOPPED", "is not Ellipsis", JOURNAL),
    Mutant("last try leaves its run to nobody", "../journal.py", "    if is_last_try(context):", "    if False:", JOURNAL),
    Mutant("kill before anything was looked up", "../attempt.py", "            if self._task.is_killed:", "            if False:", f"{OPERATOR} -k kill --timeout=20"),
    Mutant("kill right after the start", "../attempt.py", "            self._results.announce(address.run_id, address.studio_url)\n            owned_run.raise_if_killed()\n", "            self._results.announce(address.run_id, address.studio_url)\n", OPERATOR),
    Mutant("kill while the intent is written", "owned_run.py", "        try:\n            self._check()\n        except AdfTaskKilled:", "        try:\n            pass\n        except AdfTaskKilled:", OPERATOR),
    Mutant("kill makes a lost start forgotten", "owned_run.py", "            if self.latest is None:\n", "            if True:\n", OPERATOR),
    Mutant("who comes while the list is asked", "rounds.py", "                self._joined_from = None\n            unseen_since", "            unseen_since", ROUNDS),
    Mutant("same try taken for a cleared one", "intent.py", "if not stored.occasion.is_try_of(now) and (", "if (", BEGIN),
    Mutant("newer intent not read", "intent.py", "if name in known}", "}", BEGIN),
    Mutant("evidence of another factory used", "intent.py", "older.key_honoured and older.factory == self.factory", "older.key_honoured", BEGIN),
    Mutant("run of another time adopted", "find.py", "-CLOCK_SLACK <= began.timestamp() - sent_at <= START_WINDOW", "True", BEGIN),
    Mutant("run of a trigger adopted", "find.py", 'invoked_by.get("invokedByType", "Manual") != "Manual"', "False", BEGIN),
    Mutant("missing factory taken for an ended run", "begin.py", 'and answer.missing == "run"', "", BEGIN),
    Mutant("404 alone taken for an ended run", "begin.py", "return older.at is not None and clock() - older.at > RETENTION", "return True", BEGIN),
    Mutant("another run than the found one waited for", "begin.py", "return Outlasting(intent=older, run=seen, is_ours=is_ours)", "return Outlasting(intent=start.intent(), run=seen, is_ours=is_ours)", BEGIN),
    Mutant("retry claims nothing", "begin.py", "            yield claim(known.run_id or known.key)\n", "", BEGIN),
    Mutant("own failure not told because of another's clear", "../journal.py", "if intent.occasion.is_try_of(now):", "if intent.occasion == now:", OPERATOR),
    Mutant("execution_timeout heeds cancel_on_kill", "owned_run.py", "        self._cancel_on_kill = cancel\n", "", OPERATOR),
    Mutant("run known to the journal only not cancelled", "../attempt.py", "if stored is not None and stored.run_id and stored", "if False and stored", OPERATOR),
    Mutant("names that are confused", "../kills.py", "ti.task_id if may_be_confused else None", "None", KILLS),
    Mutant("two refused looks end all waits", "trouble.py", " and self._refusals >= FEWEST_REFUSALS", "", ROUNDS),
    Mutant("longest interval of a run's waiters counts", "rounds.py", "if interval < known.interval:", "if False:", ROUNDS),
    Mutant("lagging list not noticed", "listing.py", "<= moment <= self._listed_until - LAG_TOLERANCE:", "<= moment < 0:", ROUNDS),
    Mutant("ends that the list shows late not noticed", "listing.py", "if is_late and", "if False and", ROUNDS),
    Mutant("what the late list showed before not asked for", "listing.py", "self.has_more = asked.after > listed_before - OVERLAP", "self.has_more = False", ROUNDS),
    Mutant("what the late list showed before asked for an interval later", "rounds.py", "        if self._listing.has_more:\n            self._next_list = now\n", "", ROUNDS),
    Mutant("end of before its wait taken for a late one", "listing.py", "wanted[run.run_id].added <= moment <", "moment <", ROUNDS),
    Mutant("list accused of what it was never asked for", "listing.py", "max(wanted.since, self._listed_from)", "self._listed_from", ROUNDS),
    Mutant("list accused before it was asked", "listing.py", " or self._listed_until < wanted.added:", ":", ROUNDS),
    Mutant("end of before its wait never held against the list", "rounds.py", "since=shown_from)", "since=service_now)", ROUNDS),
    Mutant("list query over days", "rounds.py", "            self._listing.skip()\n", "            pass\n", ROUNDS),
    Mutant("look that shows a run going on not remembered", "rounds.py", "                waited.since = max(waited.since, asked.at)\n", "                pass\n", ROUNDS),
    Mutant("first query of the list over hours", "listing.py", "max(unseen_since, service_now - REACH)", "unseen_since", ROUNDS),
    Mutant("clock that is ahead holds up looks", "rounds.py", "if since is not None and since > now + CLOCK_SLACK:", "if False:", ROUNDS),
    Mutant("list that works ends the refusal of looks", "trouble.py", "        if self._look_error is None:\n", "        if True:\n", ROUNDS),
    Mutant("look of before a failure says that all is well", "trouble.py", "if asked_at >= self._failed_at:", "if True:", ROUNDS),
    Mutant("outage told though it has turned into a refusal", "poller.py", "(None if each is None else is_refusal(each) for each in", "(None if each is None else True for each in", f"{TRIGGER} -k turns_into"),
    Mutant("looks that work again not told where none had worked", "watch.py", "if before.error is not None and not (seen is not None and seen.is_terminal):", "if before.error is not None and seen is not None and not seen.is_terminal:", WATCH),
    Mutant("service's time by the machine's clock", "transport.py", "else time.monotonic() + self._ahead", "else time.time()", "tests/unit/test_service_clock.py"),
    Mutant("slow look taken for a new one", "rounds.py", "max(waited.since, asked.at)", "max(waited.since, now - 1)", ROUNDS),
    Mutant("what few have waited for not asked for", "listing.py", "begin = min(service_now - overlap, max(unseen_since, service_now - REACH))", "begin = service_now - overlap", ROUNDS),
    Mutant("throttled list told to nobody", "trouble.py", 'if concerns_looks or (getattr(error, "retry_after", None) or 0) >= LONG_PAUSE:', "if False:", ROUNDS),
    Mutant("machine's clock holds up waits", "poller.py", "clock = time.monotonic", "clock = lambda: time.time()", f"{TRIGGER} -k set_back"),
    Mutant("newcomer not told of failing looks", "poller.py", "            wait.tell(replace(wait.watching, error=self._trouble), None)", "            pass", f"{TRIGGER} -k told_once"),
    Mutant("failing look told as a working one", "poller.py", "                    seen = replace(seen, error=self._trouble)", "                    pass", f"{TRIGGER} -k told_once"),
    Mutant("looks said to work because the list does", "watch.py", "if before.error is not None and not (seen is not None and seen.is_terminal):", "if before.error is not None:", WATCH),
    Mutant("failing list told as failing looks", "trouble.py", "        self._failures += is_new\n", "        self._failures += is_new\n        self._list_error = error\n", ROUNDS),
    Mutant("list that can be had taken for looks that work", "trouble.py", "        self._list_error = None\n        self._list_failures = 0\n        if", "        self._list_error = self._look_error = None\n        self._list_failures = 0\n        if", ROUNDS),
    Mutant("list accused of what few were looked at for", "listing.py", "max(wanted.since, self._listed_from)", "wanted.since", ROUNDS),
    Mutant("list asked by a clock that may be wrong", "rounds.py", "if can_list and service_now is not None and now >=", "service_now = service_now or now\n        if can_list and now >=", ROUNDS),
    Mutant("list that fails alone keeps looks from being made", "trouble.py", "self.list_pause_until = self.pause_until + min", "self.list_pause_until = now + 0 * min", ROUNDS),
    Mutant("new waiters bring a failing list forward", "rounds.py", "list_at = max(self._next_list, self._trouble.list_pause_until)", "list_at = self._next_list", ROUNDS),
    Mutant("list that fails alone is not lagging", "trouble.py", "self.is_list_lost = self._list_failures >= FAILURES_OF_A_LOST_LIST", "self.is_list_lost = False", ROUNDS),
    Mutant("list that failed for a while is given up", "trouble.py", "        self._list_failures = 0\n        if", "        if", ROUNDS),
    Mutant("outage of all taken for one of the list", "trouble.py", "        if self._look_worked:\n", "        if True:\n", ROUNDS),
    Mutant("lost list query awaited for ever", "rounds.py", "        self._listing_since = None\n        self._next_list = now + self._interval", "        self._next_list = now + self._interval", ROUNDS),
    Mutant("new waiters undo a slowing down", "rounds.py", "now + interval * 0.9 * self._slow))", "now + interval * 0.9))", ROUNDS),
    Mutant("failing run waits behind all others", "looks.py", "return usual if self._was_again else again", "return usual", ROUNDS),
    Mutant("failing runs keep others waiting", "looks.py", "return usual if self._was_again else again", "return again", ROUNDS),
    Mutant("list query that lasts repeated", "rounds.py", " and self._listing_since is None\n", "\n", ROUNDS),
    Mutant("failed list query taken for one under way", "rounds.py", "        self._listing_since = None\n        self._next_list = now\n", "        self._next_list = now\n", ROUNDS),
    Mutant("new waiter with a shorter interval waits for the list", "rounds.py", "        else:\n            self._list_within(interval, now)\n", "", ROUNDS),
    Mutant("shorter interval of a run known already not taken up", "rounds.py", "                self._looks.set_interval(run_id, interval)\n", "", ROUNDS),
    Mutant("waiters that keep coming cost many pages", "rounds.py", "CLOCK_SLACK = 2.0", "CLOCK_SLACK = 10.0", ROUNDS),
    Mutant("overlap costs many pages", "listing.py", "OVERLAP_ITEMS = 100", "OVERLAP_ITEMS = 1000", ROUNDS),
    Mutant("forgotten runs pile up", "looks.py", "if len(self._queue) > 2 * len(self._due) + BURST:", "if False:", ROUNDS),
    Mutant("list query does not reach back", "listing.py", "begin = begin if self._from is None else min(begin, self._from)", "begin = service_now", ROUNDS),
    Mutant("all waits hammer a failing service", "trouble.py", "self.pause_until = max(self.pause_until, now + pause)", "now += 0 * pause", ROUNDS),
    Mutant("refusals under way at once counted one by one", "trouble.py", "        self._refusals += is_new\n", "        self._refusals += 1\n", TROUBLE),
    Mutant("failures under way at once counted one by one", "trouble.py", "        self._failures += is_new\n", "        self._failures += 1\n", TROUBLE),
    Mutant("other failures counted as refusals", "trouble.py", "self._refusals >= FEWEST_REFUSALS", "self._failures >= FEWEST_REFUSALS", TROUBLE),
    Mutant("later failure shortens a pause", "trouble.py", "max(self.pause_until, now + pause)", "now + pause", TROUBLE),
    Mutant("useless connection concerns one run only", "trouble.py", "AdfPermissionError | AdfConfigurationError\n", "AdfPermissionError\n", TROUBLE),
    Mutant("list that is refused here concerns the list only", "trouble.py", "isinstance(error, AdfAuthenticationError | AdfConfigurationError)", "isinstance(error, AdfAuthenticationError)", TROUBLE),
    Mutant("useless connection waited with by all", "trouble.py", "error if has_lasted or is_for_good(error) else None", "error if has_lasted else None", TROUBLE),
    Mutant("end told during the last look lost", "poller.py", "            return wait.outcome or last\n", "            return last\n", f"{TRIGGER} -k during_the_last_look"),
    Mutant("last looks wait for each other for long", "poller.py", "asyncio.timeout(LAST_LOOKS), self._pace,", "self._pace,", f"{TRIGGER} -k many_last_looks"),
    Mutant("mapped task judged by another index", "../journal.py", 'f"{ti.task_id}_{ti.map_index}"', "ti.task_id", KILLS),
    Mutant("failed child not followed", "explain.py", 'if row.activity_type == "ExecutePipeline" else None', 'if row.activity_type == "" else None', EXPLAIN),
    Mutant("child that names its caller followed for ever", "explain.py", "and child not in search.seen", "", f"{EXPLAIN} --timeout=20"),
    Mutant("container taken for a cause", "explain.py", "        if row.activity_type not in CONTAINERS:\n            return False\n", "        return False\n", EXPLAIN),
    Mutant("timed out container left out", "explain.py", "return bool(set(_INNER.findall(row.error_message or \"\")) & names)", "return True", EXPLAIN),
    Mutant("recovered activity taken for a cause", "explain.py", "    if _may_have_recovered(rows, said):", "    if False:", EXPLAIN),
    Mutant("handled failure comes first", "explain.py", "return not _is_named(row, said) or row.activity_type == \"Fail\", _ended(row)", "return False, _ended(row)", EXPLAIN),
    Mutant("Fail activity taken for the first cause", "explain.py", " or row.activity_type == \"Fail\"", "", EXPLAIN),
    Mutant("explanation asks without end", "explain.py", "if self.requests >= MOST_REQUESTS:", "if False:", EXPLAIN),
    Mutant("explanation takes its time", "explain.py", "elif self.clock() > self.until:", "elif False:", EXPLAIN),
    Mutant("list that is behind taken for all", "explain.py", "if following is None and not rows and again_if_empty and search.may_rest():", "if False:", EXPLAIN),
    Mutant("explanation given up at the first fault", "explain.py", "elif isinstance(page, AdfThrottledError | AdfUnavailableError) and search.may_rest():", "elif False:", EXPLAIN),
    Mutant("explanation that fails hides the failure", "explain.py", "        else:\n            search.missing = cap(", "        else:\n            raise page\n            search.missing = cap(", EXPLAIN),
    Mutant("long message not cut", "failure.py", "cap(run.error_message, LONGEST_MESSAGE)", "run.error_message", EXPLAIN),
    Mutant("event of an older version", "report.py", 'if payload.get("explanation") else None', 'if payload["explanation"] else None', REPORT),
    Mutant("own cancel taken for somebody's", "reporting.py", "by_us = answer is Cancel.PERHAPS and", "by_us = False and", REPORT),
    Mutant("somebody's cancel taken for our own", "watch.py", "over = Cancel.PERHAPS if failures else Cancel.TOO_LATE", "over = Cancel.PERHAPS", "tests/unit/test_watch.py tests/unit/test_report.py"),
    Mutant("odd answer hides the failure", "reporting.py", "    except Exception as e:  # noqa: BLE001  whatever an answer makes go wrong", "    except ZeroDivisionError as e:  # noqa: BLE001  whatever an answer makes go wrong", REPORT),
    Mutant("handled user error ends the retries", "../retry.py", 'if any(failure.is_named and failure.activity_type != "Fail" for failure in failures):', "if False:", RETRY),
    Mutant("handled failure taken for a cause", "explain.py", "        if not failure.is_named:\n", "        if False:\n", EXPLAIN),
    Mutant("part of a list passes for the whole", "outputs.py", "        if following is not None:\n            cut", "        if False:\n            cut", OUTPUTS),
    Mutant("secret member reached by its path", "outputs.py", "next((step for step in reversed(path.steps) if not step.isdecimal()), \"\")", '""', OUTPUTS),
    Mutant("secret of a name and value pair", "redact.py", "[\\w.-]*(?:{NAMES}|secret|token|authorization)", "(?!)", "tests/unit/test_models.py"),
    Mutant("password of a connection string", "redact.py", "={{0,2}}(?=;)", "={{0,2}}(?=;;)", "tests/unit/test_models.py"),
    Mutant("private key", "redact.py", "-----BEGIN [A-Z ]*PRIVATE KEY-----)", "-----BEGIN (?!)-----)", "tests/unit/test_models.py"),
    Mutant("naive time breaks the order", "models.py", "return value if value.tzinfo is not None else value.replace(tzinfo=UTC)", "return value", "tests/unit/test_models.py"),
    Mutant("odd error of an activity", "models.py", "return value if isinstance(value, Mapping) else {}", "return value or {}", "tests/unit/test_models.py"),
    Mutant("user error retried", "../retry.py", "if failure.failure_type == USER_ERROR and not self._is_retried(failure):", "if False:", RETRY),
    Mutant("retry_on not heeded", "../retry.py", "return any(text.lower() in said for text in self.retry_on)", "return False", RETRY),
    Mutant("cancelled run started again", "../retry.py", "isinstance(exception, AdfRunCancelled) and not self.retry_cancelled", "False", RETRY),
    Mutant("wrong configuration retried", "../retry.py", "isinstance(exception, AdfConfigurationError)", "False", RETRY),
    Mutant("text for a list of texts", "../retry.py", "if isinstance(retry_on, str):", "if False:", RETRY),
    Mutant("large output pushed", "outputs.py", "if size > LARGEST:", "if False:", OUTPUTS),
    Mutant("credentials in outputs", "outputs.py", "return redact(value) if isinstance(value, str) else value", "return value", OUTPUTS),
    Mutant("password in outputs", "outputs.py", 'if names_secret(name) and value not in', "if False and value not in", OUTPUTS),
    Mutant("iterations mixed up", "outputs.py", "if any(row.iteration_hash for row in ran):", "if False:", OUTPUTS),
    Mutant("path that is none", "outputs.py", "if not name or end != len(rest):", "if False:", OUTPUTS),
    Mutant("output over an XCom of the task", "outputs.py", "    if taken:", "    if False:", OUTPUTS),
    Mutant("pages of outputs not followed", "outputs.py", "following = next_page(following, page)", "following = None", OUTPUTS),
    Mutant("outputs of an unfinished run", "../operators.py", "if self.outputs and not self.wait_for_termination:", "if False:", PUSHED),
    Mutant("bad outputs seen after the run", "../attempt.py", "        began = time.time()\n        parse_outputs(self._task.outputs)\n", "        began = time.time()\n", PUSHED),
    Mutant("run of a lost answer that failed returned as success", "../attempt.py", "return self._results.of(owned_run.explain(report))", "return summary(address, begun.run, adopted=begun.adopted)", OPERATOR),
    Mutant("unread outputs start a second run", "../results.py", "            if self._task.durable:\n                raise", "            if True:\n                raise", PUSHED),
    Mutant("secrets of JSON within JSON", "redact.py", '"(?P<quote>', '"(?!)(?P<quote>', "tests/unit/test_models.py"),
    Mutant("password of an address", "redact.py", "(?=@)", "(?=@@)", "tests/unit/test_models.py"),
    Mutant("header of basic authentication", "redact.py", "(?:basic|", "(?:", "tests/unit/test_models.py"),
    Mutant("key of a function app", "redact.py", "[?&]code=|", "", "tests/unit/test_models.py"),
    Mutant("activities asked for at every look", "activity_log.py", "now - self.looked_at < INTERVAL", "False", ACTIVITIES),
    Mutant("factory's budget not kept", "activity_log.py", "if len(taken) >= self._per_minute:", "if False:", ACTIVITIES),
    Mutant("deadline put off by the activity log", "activity_log.py", "self.deadline - now < LEAST_LEFT", "False", ACTIVITIES),
    Mutant("refused list asked for again", "activity_log.py", "self.refused = isinstance(page, AdfError) and is_refusal(page)", "self.refused = False", ACTIVITIES),
    Mutant("activity log ends the wait", "activity_log.py", "        except Exception as e:  # noqa: BLE001", "        except ZeroDivisionError as e:  # noqa: BLE001", ACTIVITIES),
    Mutant("activity logged at every look", "activity_log.py", "before[row.activity_run_id].status != row.status", "True", ACTIVITIES),
    Mutant("list that is late missed", "activity_log.py", "since - OVERLAP", "since", ACTIVITIES),
    Mutant("mode that is none", "activity_log.py", "    for known in MODES:\n", "    return mode\n    for known in MODES:\n", PROVIDER),
    Mutant("403 without the principal", "translate.py", 'claims=principal(token_of(error) or "")', "claims={}", f"{CLIENT} -k missing_role"),
    Mutant("403 says everything twice", "translate.py", 'if code == "AuthorizationFailed" and', "if False and", f"{EXPLAINED} -k role_to_start"),
    Mutant("404 without near names", "start.py", "raise (yield from with_near_names(answer, start.factory, start.pipeline_name))", "raise answer", f"{EXPLAINED} -k misspelt"),
    Mutant("factory in another group not seen", "near.py", "    if same:", "    if False:", NEAR),
    Mutant("refused list of names hides the error", "near.py", "if not isinstance(names, AdfError):", "if True:", NEAR),
    Mutant("names listed for a missing run", "near.py", 'elif error.missing == "factory":', "else:", NEAR),
    Mutant("missing permission taken for held", "checkup.py", "    if isinstance(answer, AdfPermissionError):\n        return Finding(\n            step=step,", "    if False:\n        return Finding(\n            step=step,", CLI),
    Mutant("no answer taken for permission", "checkup.py", "and answer.status in (400, 404)", "or True", CLI),
    Mutant("probable taken for certain", "checkup.py", "holds=Holds.PROBABLY, detail=f\"{BELOW}{action}\"", "holds=Holds.YES, detail=f\"{BELOW}{action}\"", CLI),
    Mutant("check looks at a run that is not there", "checkup.py", "if isinstance(runs, calls.Page) and runs.items else _nowhere()", "if False else _nowhere()", CLI),
    Mutant("check starts what is there", "checkup.py", "(yield calls.create_run(factory, _nowhere(), None", "(yield calls.create_run(factory, 'Load', None", CLI),
    Mutant("missing certificates end the check", "checkup.py", "    except AdfError as e:  # such", "    except ZeroDivisionError as e:  # such", CLI),
    Mutant("check goes on without a factory", "checkup.py", "if isinstance(found, AdfError) and not isinstance(found, AdfPermissionError):", "if False:", CLI),
    Mutant("check always well", "../cli.py", "return 0 if well else 1", "return 0", CLI),
    Mutant("test connection well without a permission", "../hooks.py", "        if wrong:", "        if False:", HOOKS),
    Mutant("throttled request not counted", "answers.py", "if isinstance(error, AdfThrottledError):", "if False:", STATS),
    Mutant("broken metrics end a run", "../stats.py", "except Exception as e:", "except ZeroDivisionError as e:", STATS),
    Mutant("triggerer counts where nobody listens", "../stats.py", "    from airflow.observability import stats\n", "    from airflow.sdk.observability import stats\n", STATS),
    Mutant("ambiguous start not counted", "../attempt.py", "if isinstance(e, AdfAmbiguousStartError):", "if False:", STATS),
    Mutant("sensor's requests not counted", "../sensors.py", "        use_in_tasks()\n", "", STATS),
    Mutant("sensor's waits not counted", "../sensors.py", "            measure(outcome, time.time())\n", "", STATS),
    Mutant("cancel of a run that is over not counted", "answers.py", '            _count(call, "answered")\n            return call', "            return call", STATS),
    Mutant("lineage asked for where nobody listens", "../trace.py", "return not conf.is_disabled()", "return True", LINEAGE),
    Mutant("lineage asked for a task that is left out", "../trace.py", "return bool(policy.emit and policy.extract_operator_metadata)", "return True", LINEAGE),
    Mutant("lineage fails a task", "../trace.py", "except Exception as e:", "except KeyError as e:", f"{LINEAGE} -k foresaw"),
    Mutant("lineage needs the provider", "../trace.py", "    except ImportError:\n        return False\n", "    except ZeroDivisionError:\n        return False\n", LINEAGE),
    Mutant("lineage of a run that goes on", "../trace.py", "or not self.run.is_terminal or", "or", LINEAGE),
    Mutant("lineage without activities that failed", "../trace.py", "if report.explanation is not None:", "if False:", LINEAGE),
    Mutant("parameters shown to the provider", "../operators.py", "        from airflow_adf_mi.lineage import at_start\n\n        hide_parameters(self)\n", "        from airflow_adf_mi.lineage import at_start\n\n", LINEAGE),
    Mutant("hidden parameters sent to the service", "../operators.py", "parameters=parameters_of(self)", "parameters=self.parameters", LINEAGE),
    Mutant("another task's parameters", "../hidden.py", "known.task() is task and ", "", HIDDEN),
    Mutant("parameters of an earlier rendering", "../hidden.py", " and known.shown is shown else", " else", HIDDEN),
    Mutant("parameters hidden for good", "../hidden.py", "given is None or given is not parameters_of(task)", "given is None", HIDDEN),
    Mutant("lineage without an end", "lineage.py", "if self.requests >= MOST_REQUESTS or self.clock() > self.until:", "if self.clock() > self.until:", DATASETS),
    Mutant("lineage takes its time", "lineage.py", "self.requests >= MOST_REQUESTS or self.clock() > self.until", "self.requests >= MOST_REQUESTS", DATASETS),
    Mutant("lineage in circles", "lineage.py", "child and child not in search.seen", "child", DATASETS),
    Mutant("refused list taken for no datasets", "lineage.py", "            search.missing = search.missing or str(page)\n", "", DATASETS),
    Mutant("refused definition not told", "lineage.py", "search.missing = search.missing or str(answer)", "pass", DATASETS),
    Mutant("skipped activity moved data", "lineage.py", "        if row.started_at is None:\n            continue", "        if False:\n            continue", DATASETS),
    Mutant("amount that is not all", "lineage.py", "if len(known) == len(values) else None", "", DATASETS),
    Mutant("data flow taken for a dataset", "lineage.py", ' or reference.get("type") != "DatasetReference"', "", DATASETS),
    Mutant("secret in a dataset's name", "lineage.py", "found.append(redact(name))", "found.append(name)", DATASETS),
    Mutant("each attempt's rows", "lineage.py", "for row, _ in final_attempts(listed):", "for row in listed:", DATASETS),
    Mutant("start in the triggerer not written down", "../xcom_journal.py", "            await self._keep(intent)\n            if self._is_stale", "            if self._is_stale", f"{WORKER_LESS} -k lost_between_the_start"),
    Mutant("no look before a start in the triggerer", "../triggerer_start.py", "            if seen is not None:", "            if False:", f"{WORKER_LESS} -k does_not_tell"),
    Mutant("overtaken triggerer starts as well", "../xcom_journal.py", "        if self._run_id != run_id:\n", "        if False:\n", f"{WORKER_LESS} -k two_triggerers"),
    Mutant("clear in the triggerer taken for a retry", "recall.py", " if kept is not None and kept.failed else None", " if kept is not None else None", RECALL),
    Mutant("clear without a word taken for a retry", "recall.py", "clear_number=BEFORE_A_CLEAR)", "clear_number=0)", RECALL),
    Mutant("parameters of the same try count", "recall.py", "    if known is not None and known.occasion.try_number == now.try_number:\n        return known\n", "", RECALL),
    Mutant("kill interrupts createRun", "../triggerer_start.py", "if self._doing is not None and not self._journal.is_sending:", "if self._doing is not None:", f"{WORKER_LESS} -k between_the_start_and_its_answer_cancels"),
    Mutant("start goes on after a kill", "../xcom_journal.py", "        if self.is_stopped:", "        if False:", f"{WORKER_LESS} -k before_the_start"),
    Mutant("start that a clear overtook goes on", "../triggerer_start.py", "if was_sending and await self._is_replaced():", "if False:", f"{WORKER_LESS} -k overtakes"),
    Mutant("param without a default ends the triggerer", "../placement.py", "        if not is_arg_set(param.value):", "        if False:", PLACEMENT),
    Mutant("params of the task not checked", "../placement.py", 'if param.source == "task" and param.schema:', "if False:", PLACEMENT),
    Mutant("queue and the like ignored", "../placement.py", '            return f"{name} would be ignored"', "            pass", PLACEMENT),
    Mutant("native objects of the task", "../placement.py", "bool(task.render_template_as_native_obj) or", "False or", PLACEMENT),
    Mutant("mapped task taken for one of the triggerer", "../operators.py", "start_from_trigger=False, **kwargs)", "start_from_trigger=start_from_trigger, **kwargs)", PLACEMENT),
    Mutant("late answer taken for a fresh one", "../xcom_journal.py", "        self._read_at = asked_at\n        self.latest", "        self._read_at = self._clock()\n        self.latest", WORKER_LESS),
    Mutant("results of before a clear kept where nothing was started", "../worker_less.py", "            await self._forget_what_was_replaced()\n", "", WORKER_LESS),
    Mutant("run that was started late cancelled early", "../worker_less_end.py", "run = None if self._is_time_over() else", "run = None if True else", ON_A_WORKER),
    Mutant("run that was started late outlasts execution_timeout", "../worker_less_end.py", "run = None if self._is_time_over() else", "run = None if False else", ON_A_WORKER),
    Mutant("retry forgotten by a try without a connection", "../worker_less_end.py", "return marked(self._xcom(RUN_ID_KEY), self._xcom(INTENT_KEY), place, failed=retry)", "return None", ON_A_WORKER),
    Mutant("trigger without a connection tells no retry", "../xcom_journal.py", "            told = marked(self._run_id, self._kept, self.place, failed=True)\n", "            told = None\n", f"{WORKER_LESS} -k restart_has_left"),
    Mutant("trigger whose templates fail tells no retry", "../worker_less.py", "            await self._tell_next_try(self._journal)\n            raise\n", "            raise\n", f"{WORKER_LESS} -k restart_has_left"),
    Mutant("adopted run forgotten by a try without a connection", "recall.py", "    if known is not None and known.occasion.try_number == place.try_number:\n        return replace(known, failed=failed)", "    if False:\n        return replace(known, failed=failed)", RECALL),
    Mutant("second try without a connection tells no retry", "recall.py", " or _is_inherited(run_id, stored, place.try_number)):", "):", RECALL),
    Mutant("mark of another run taken for this one's", "recall.py", " and stored.get(_OF_RUN) == run_id", "", RECALL),
    Mutant("retry that goes on after a mark taken for a clear", "recall.py", "in (try_number - 1, try_number)", "in (try_number - 1,)", RECALL),
    Mutant("run of the try before taken for this one's", "recall.py", "        return replace(known or sent, occasion=replace(now, try_number=now.try_number - 1), failed=True)", "        return replace(known or sent, occasion=now, failed=True)", RECALL),
    Mutant("last try without a connection leaves a retry", "recall.py", "place.try_number if failed else place.try_number - 1", "place.try_number", ON_A_WORKER),
    Mutant("old refusal ends new waits", "trouble.py", "        self.gives_up = None\n        is_new", "        is_new", TROUBLE),
    Mutant("old refusal ends new waits when the list is refused", "trouble.py", "        self.gives_up = None\n        concerns", "        concerns", TROUBLE),
    Mutant("clear after a lost handing over taken for a retry", "../xcom_journal.py", "is_late or self._has_failed or", "is_late or", f"{WORKER_LESS} -k handing_over_that"),
    Mutant("worker that is lost between triggers leaves a clear", "../worker_less_end.py", "            self._tell_next_try(retry=self._task.durable and not is_last_try(self._context))\n            with", "            with", f"{ON_A_WORKER} -k rested_from"),
    Mutant("clear after a broken trigger taken for a retry", "../worker_less_end.py", "        self._tell_next_try(retry=False)\n        trigger", "        trigger", f"{ON_A_WORKER} -k rested_from"),
    Mutant("result that is not taken leaves a clear", "../worker_less_end.py", '                self._context["ti"].xcom_push(key=RETURN_VALUE, value=result)\n', "                pass\n", f"{ON_A_WORKER} -k airflow_does_not_take"),
    Mutant("clear after a start that was handed over taken for a retry", "../worker_less_end.py", "                result = dict(event[STARTED])\n", "                return dict(event[STARTED])\n", f"{ON_A_WORKER} -k not_waited_for"),
    Mutant("trigger without a queue", "../placement.py", 'if conf.getboolean("triggerer", "queues_enabled", fallback=False):', "if False:", PLACEMENT),
    Mutant("proof of nothing sent comes early", "../triggerer_start.py", "settle=start.settle + LATE", "settle=start.settle", f"{WORKER_LESS} -k no_blind_start"),
    Mutant("throttled start holds nobody", "outlet.py", "            self._pace.hold(time.time() + (e.retry_after or 0))\n", "", f"{WORKER_LESS} -k holds_all"),
    Mutant("all starts under way at once", "outlet.py", "AT_ONCE = 20", "AT_ONCE = 2000", f"{WORKER_LESS} -k few_starts"),
    Mutant("start that has rested does not wait for its turn", "outlet.py", "            await self.enter()\n        await self._client", "            pass\n        await self._client", OUTLET),
    Mutant("answered start keeps its place", "outlet.py", "        finally:\n            self.leave()\n\n    async def enter", "        finally:\n            pass\n\n    async def enter", OUTLET),
    Mutant("start that was about to leave leaves while all are held", "outlet.py", "        while held := self._pace.held(time.time()):", "        while held := 0:", OUTLET),
    Mutant("start that is looked for keeps the others waiting", "outlet.py", "        self.leave()\n        await", "        await", f"{WORKER_LESS} -k written_down_before"),
    Mutant("starts not paced", "pace.py", "return max(0.0, self._empty_until - now - self.burst / self.per_second)", "return 0.0", PACE),
    Mutant("throttle ends no burst", "pace.py", "until + (self.burst - 1) / self.per_second", "until", PACE),
    Mutant("undefined name rendered as nothing", "../worker_less.py", "        environment.undefined = jinja2.StrictUndefined\n", "", f"{WORKER_LESS} -k not_defined"),
    Mutant("trigger shows its parameters", "../worker_less.py", 'return f"<{self.serialize()[0]} pipeline_name={self.pipeline_name!r}>"', "return super().__repr__()", f"{WORKER_LESS} -k shows_no"),
    Mutant("execution_timeout ends a trigger without a cancel", "../worker_less.py", "return min(deadline, began + self.execution_timeout - min(MARGIN, self.execution_timeout / 4))", "return deadline", f"{WORKER_LESS} -k execution_timeout"),
    Mutant("each task reads its connection", "../settings_once.py", "    if known is None or", "    if True or", f"{WORKER_LESS} -k once_for_all"),
    Mutant("no link while a task without a worker runs", "../ending.py", "    await asyncio.sleep(LINK_AFTER", "    return\n    await asyncio.sleep(LINK_AFTER", f"{WORKER_LESS} -k link_of"),
    Mutant("failed run of the same try is followed by another", "begin.py", "(RunStatus.FAILED, RunStatus.CANCELLED) and not same_try:", "(RunStatus.FAILED, RunStatus.CANCELLED):", f"{WORKER_LESS} -k its_run_fails"),
    Mutant("handed over without a word", "../worker_less.py", "            await journal.hand_over()\n", "            pass\n", f"{WORKER_LESS} -k retry_accepts"),
    Mutant("what this process has seen proves nothing", "../triggerer_start.py", "if stored is not None and stored.factory in _honoured:", "if False:", f"{WORKER_LESS} -k blind_start"),
    Mutant("another's run adopted where keys are ids", "start.py", "        if intent.key_honoured:\n            # Where", "        if False:\n            # Where", f"{WORKER_LESS} -k blind_start"),
    Mutant("Airflow asked once only", "../xcom_journal.py", "    for seconds in PAUSES:", "    for seconds in ():", f"{WORKER_LESS} -k for_a_moment"),
    Mutant("result that is not taken ends the task", "../ending.py", "        return None\n    return TaskSuccessEvent", "    return TaskSuccessEvent", f"{WORKER_LESS} -k does_not_take"),
    Mutant("worker-less start loses its error's type", "error_json.py", 'kind = _BY_NAME.get(stored["type"], AdfError)', "kind = AdfError", ERROR_JSON),
    Mutant("xcom_pull that is never answered", "../placement.py", 'if attribute.attr == "xcom_pull" and id(attribute) not in allowed:', "if False:", PLACEMENT),
    Mutant("name that is not there rendered in the triggerer", "../placement.py", "    if unknown:", "    if False:", PLACEMENT),
    Mutant("result of another task rendered in the triggerer", "../placement.py", 'why = "the result of another task"', "why = None", PLACEMENT),
    Mutant("Jinja settings forgotten", "../placement.py", "    if customized:", "    if False:", PLACEMENT),
    Mutant("pool ignored", "../placement.py", 'if task.pool != "default_pool":', "if False:", PLACEMENT),
    Mutant("limits ignored", "../placement.py", "if task.max_active_tis_per_dag is not None or task.max_active_tis_per_dagrun is not None:", "if False:", PLACEMENT),
    Mutant("outlets forgotten", "../placement.py", "    if task.outlets:", "    if False:", PLACEMENT),
    Mutant("success callback forgotten", "../placement.py", "    if task.on_success_callback:", "    if False:", PLACEMENT),
    Mutant("mapped group starts in the triggerer", "../placement.py", "next(iter(task.iter_mapped_task_groups()), None) is not None", "False", PLACEMENT),
    Mutant("tasks mapped over a result forgotten", "../placement.py", "if next(iter(task.iter_mapped_dependants()), None) is not None:", "if False:", PLACEMENT),
    Mutant("subclass's execute forgotten", "../placement.py", "        or _overridden(task, CALLED_BY_WORKERS)\n", "", PLACEMENT),
    Mutant("listeners not told", "../placement.py", "return not _has_success_listeners() and", "return", f"{ON_A_WORKER} -k listeners"),
    Mutant("broken trigger ends its task", "../worker_less_end.py", "            if failures >= TRIGGER_FAILURES:", "            if True:", f"{ON_A_WORKER} -k started_again"),
    Mutant("rendered secrets stored with a trigger", "../worker_less_end.py", "again = self._task.dag.get_task(self._task.task_id).start_trigger_args", "again = self._task.start_trigger_args", f"{ON_A_WORKER} -k started_again"),
    Mutant("last failure taken for one that is retried", "../worker_less_end.py", "            return not is_last_try(self._context)\n", "            return True\n", f"{ON_A_WORKER} -k whether_a_retry"),
    Mutant("failure that a policy ends taken for one that is retried", "../worker_less_end.py", "bool(decision.action != RetryAction.FAIL)", "True", f"{ON_A_WORKER} -k policy"),
    Mutant("lost run of the try before taken for this one's", "begin.py", "inherited=not same_try)", "inherited=False)", BEGIN),
    Mutant("adopted run taken for the one of the try before", "begin.py", "        inherited=False,\n", "", BEGIN),
    Mutant("run of the try before taken over by a worker as its own", "../worker_less_end.py", "occasion=here, inherited=inherited)", "occasion=here)", f"{ON_A_WORKER} -k before_its_retry"),
    Mutant("changed Dag without a connection leaves a clear", "../worker_less_end.py", "        with self._saying_that_it_failed():\n            known = self._recalled()\n", "        if True:\n            known = self._recalled()\n", f"{ON_A_WORKER} -k is_left_to_a_retry"),
    Mutant("success on a worker taken for a failure", "../worker_less_end.py", "        self._tell_next_try(retry=False)\n", "", f"{ON_A_WORKER} -k is_no_failure"),
    Mutant("time over before the start ends as the run before", "../worker_less_end.py", "        if known is None or is_of_before_a_clear(known):\n            raise AdfError(", "        if known is None:\n            raise AdfError(", f"{ON_A_WORKER} -k not_the_run_of_the_try_before"),
    Mutant("changed Dag loses its run", "../worker_less_end.py", "            TaskJournal(self._context).save(", "            (lambda _: None)(", f"{ON_A_WORKER} -k goes_on_with_its_run"),
    Mutant("kill of a run that went on on workers", "../worker_less_end.py", "        if self._here is not None:\n            self._here.kill()", "        if self._here is not None:\n            pass", f"{ON_A_WORKER} -k goes_on_with_its_run"),
    Mutant("trigger started again has a week", "../worker_less_end.py", "        if self._task.execution_timeout is not None:", "        if False:", f"{ON_A_WORKER} -k keeps_the_time"),
    Mutant("Airflow's timeout taken for a kill", "../triggers.py", "and not is_late", "", f"{WORKER_LESS} -k is_no_kill"),
    Mutant("kill forgets what it could not read", "../triggerer_start.py", "            log.error(\n                \"Whether the killed", "            log.debug(\n                \"Whether the killed", f"{WORKER_LESS} -k does_not_answer"),
    Mutant("late write not checked", "../xcom_journal.py", "            if self._is_stale():\n                # It took", "            if False:\n                # It took", f"{WORKER_LESS} -k long_in_being"),
    Mutant("late start not told when it was sent", "../xcom_journal.py", "        if is_late or self._has_failed", "        if self._has_failed", f"{WORKER_LESS} -k long_after"),
    Mutant("results of the run before stay", "../worker_less.py", "            await self._journal.forget([", "            list([", f"{WORKER_LESS} -k are_gone"),
    Mutant("reason of a refusal lost", "../xcom_journal.py", "        except AdfError as e:\n            # It must not hide", "        except ZeroDivisionError as e:\n            # It must not hide", f"{WORKER_LESS} -k reason_of"),
    Mutant("older run of another pipeline not found", "begin.py", "    if isinstance(seen, PipelineRun):\n        return seen, True\n    while", "    while", f"{WORKER_LESS} -k changed_pipeline"),
    Mutant("template that includes another", "../placement.py", '        return "a template of other templates"\n', "        pass\n", PLACEMENT),
]  # fmt: skip


def main() -> int:
    survivors = []
    with tempfile.TemporaryDirectory() as folder:
        pool = ThreadPoolExecutor(os.cpu_count())
        tried = pool.map(lambda item: _try(item[1], Path(folder) / str(item[0])), enumerate(MUTANTS))
        for number, (mutant, verdict) in enumerate(zip(MUTANTS, tried, strict=True), 1):
            print(f"{number:3} {verdict:9} {mutant.what:45} {mutant.tests.split()[0]}", flush=True)
            if verdict != "killed":
                survivors.append(mutant)
    print(f"{len(MUTANTS) - len(survivors)} of {len(MUTANTS)} mutants killed.")
    return 1 if survivors else 0


def mutated_copy(folder: Path, file: str, old: str, new: str) -> dict[str, str] | None:
    """A copy of the project in `folder` with one change; the environment that uses it, or None where `old` is not there."""
    for name in ("airflow_adf_mi", "tests", "dags"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    path = folder / "airflow_adf_mi" / "adf" / file
    source = path.read_text()
    if old not in source:
        return None
    path.write_text(source.replace(old, new))
    return {**os.environ, "PYTHONPATH": str(folder)}


def _try(mutant: Mutant, folder: Path) -> str:
    environment = mutated_copy(folder, mutant.file, mutant.old, mutant.new)
    if environment is None:
        return "STALE"
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *shlex.split(mutant.tests)]
    try:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=300, check=False)
    except subprocess.TimeoutExpired:
        return "HUNG"
    finally:
        shutil.rmtree(folder)
    # 1 is "tests failed"; anything else but 0 means that the mutant itself is broken.
    return {0: "SURVIVED", 1: "killed"}.get(done.returncode, f"BROKEN {done.returncode}")


if __name__ == "__main__":
    sys.exit(main())
