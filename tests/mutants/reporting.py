"""Mutants of reports, outputs, retries and lineage."""

from __future__ import annotations

from tests.mutants import Mutant

TRIGGER = "tests/integration/triggers/test_wait.py"
OPERATOR = "tests/integration/test_operators.py"
PROVIDER = "tests/contract/test_provider.py"
EXPLAIN = "tests/unit/adf/reporting/test_explain.py"
REPORT = "tests/unit/adf/reporting/test_report.py"
NAME_SUGGESTIONS = "tests/unit/adf/test_name_suggestions.py"
ACTIVITIES = "tests/unit/adf/reporting/test_activity_log.py"
OUTPUTS = "tests/unit/adf/reporting/test_outputs.py"
PUSHED = "tests/integration/adf/reporting/test_outputs.py"
RETRY = "tests/unit/test_retry.py"
DATASETS = "tests/unit/adf/reporting/test_datasets.py"
LINEAGE = "tests/integration/_openlineage/test_facets.py"
HIDDEN = "tests/unit/_openlineage/test_hidden_parameters.py"
CONSUMPTION = "tests/unit/adf/reporting/test_consumption.py"
CONSUMED = "tests/integration/adf/reporting/test_consumption.py"

MUTANTS = [
    Mutant("consumption in a text not read", "adf/reporting/consumption.py", "if isinstance(reference, str):", "if False:", CONSUMPTION),
    Mutant("consumption without a unit not read", "adf/reporting/consumption.py", "elif entry.keys().isdisjoint((\"meterType\", \"duration\", \"unit\")):", "elif False:", CONSUMPTION),
    Mutant("meters of two prices added up", "adf/reporting/consumption.py", "return (kind, name, unit), float(amount)", "return (None, name, unit), float(amount)", CONSUMPTION),
    Mutant("odd text of a consumption raises", "adf/reporting/consumption.py", "except UNREADABLE:", "except ZeroDivisionError:", CONSUMPTION),
    Mutant("text of a consumption stored as it is", "adf/reporting/consumption.py", "return plain(json.loads(text))", "return json.loads(text)", CONSUMPTION),
    Mutant("sum of a consumption too large for JSON", "adf/reporting/consumption.py", "not 0 <= amount <= LARGEST_DURATION", "amount < 0", CONSUMPTION),
    Mutant("meters without end", "adf/reporting/consumption.py", "len(durations) >= MOST_METERS", "False", CONSUMPTION),
    Mutant("odd consumption left out without a word", "adf/reporting/activity_log.py", "if found.left_out:", "if False:", CONSUMED),
    Mutant("part of the consumption shown as all of it", "adf/reporting/activity_log.py", "if not self.is_complete or any(", "if any(", ACTIVITIES),
    Mutant("consumption added up before the activities have ended", "adf/reporting/activity_log.py", "self.is_complete or any(row.status in RunStatus.UNFINISHED for row in self.rows.values()):", "self.is_complete:", ACTIVITIES),
    Mutant("consumption of a list with unreadable rows", "adf/reporting/activity_log.py", " and not listed.unreadable", "", ACTIVITIES),
    Mutant("consumption of the query before counts", "adf/reporting/activity_log.py", "        self.is_complete = False\n", "", ACTIVITIES),
    Mutant("consumption lost in the triggerer", "triggers/wait.py", "                consumption=activities.consumption,\n", "", CONSUMED),
    Mutant("consumption not counted", "adf/reporting/conclude.py", "measure_consumption(consumption or ())", "pass", CONSUMED),
    Mutant("event without a consumption not read", "adf/reporting/report.py", '_consumed(payload.get("consumption"))', '_consumed(payload["consumption"])', REPORT),
    Mutant("consumption that was not read shown as none", "adf/reporting/report.py", "    return None if consumption is None else [one", "    return [] if consumption is None else [one", REPORT),
    Mutant("timeout does not cancel", "adf/reporting/conclude.py", "isinstance(outcome, TimedOut) and cancel_on_timeout", "False", TRIGGER),
    Mutant("message cut twice", "adf/reporting/report.py", "PipelineRun.from_essentials", "PipelineRun.from_wire", "tests/unit/adf/reporting/test_report.py -k cut"),
    Mutant("failed push of an XCom orphans the run", "_worker/results.py", "        except Exception as e:  # noqa: BLE001", "        except ZeroDivisionError as e:  # noqa: BLE001", OPERATOR),
    Mutant("credentials in messages not masked", "adf/redaction.py", 'if "eyJ" in text:', "if False:", "tests/unit/adf/test_models.py"),
    Mutant("failed child not followed", "adf/reporting/explain.py", 'if row.activity_type == "ExecutePipeline" else None', 'if row.activity_type == "" else None', EXPLAIN),
    Mutant("child that names its caller followed for ever", "adf/reporting/explain.py", "and child not in search.seen", "", f"{EXPLAIN} --timeout=20"),
    Mutant("container treated as a cause", "adf/reporting/explain.py", "        if row.activity_type not in CONTAINERS:\n            return False\n", "        return False\n", EXPLAIN),
    Mutant("timed out container left out", "adf/reporting/explain.py", "return any(name in names for name in inner_names(row.error_message))", "return True", EXPLAIN),
    Mutant("recovered activity treated as a cause", "adf/reporting/explain.py", "    if _may_have_recovered(rows, message_of_run):", "    if False:", EXPLAIN),
    Mutant("handled failure shown first", "adf/reporting/explain.py", "return not message_of_run.names(row.activity_name) or row.activity_type == \"Fail\", _ended(row)", "return False, _ended(row)", EXPLAIN),
    Mutant("Fail activity shown as the first cause", "adf/reporting/explain.py", " or row.activity_type == \"Fail\"", "", EXPLAIN),
    Mutant("explanation sends requests without end", "adf/reporting/request_budget.py", "if self._left <= 0:", "if False:", EXPLAIN),
    Mutant("explanation has no time limit", "adf/reporting/request_budget.py", "elif self.timing.clock() > self._until:", "elif False:", EXPLAIN),
    Mutant("list that lags treated as complete", "adf/reporting/explain.py", "if pages.next() is None and not pages.rows and again_if_empty and search.may_pause():", "if False:", EXPLAIN),
    Mutant("explanation given up at the first failed request", "adf/reporting/explain.py", "elif isinstance(page, AdfThrottledError | AdfUnavailableError) and search.may_pause():", "elif False:", EXPLAIN),
    Mutant("explanation that fails hides the failure", "adf/reporting/explain.py", "        else:\n            search.record(cap(", "        else:\n            raise page\n            search.record(cap(", EXPLAIN),
    Mutant("long message not cut", "adf/activity_failures.py", "cap(run.error_message, LONGEST_MESSAGE)", "run.error_message", EXPLAIN),
    Mutant("event of an older version not read", "adf/reporting/report.py", 'if payload.get("explanation") else None', 'if payload["explanation"] else None', REPORT),
    Mutant("our cancel treated as somebody else's", "adf/reporting/conclude.py", "if answer is Cancel.PERHAPS and", "if False and", REPORT),
    Mutant("odd answer hides the failure", "adf/reporting/conclude.py", "    except Exception as e:  # noqa: BLE001  whatever the answer was", "    except ZeroDivisionError as e:  # noqa: BLE001  whatever the answer was", REPORT),
    Mutant("handled user error ends the retries", "retry.py", 'if any(failure.is_named and failure.activity_type != "Fail" for failure in failures):', "if False:", RETRY),
    Mutant("handled failure treated as a cause", "adf/reporting/explain.py", "first if is_named else", "first if True else", EXPLAIN),
    Mutant("truncated list of activities read as complete", "adf/reporting/outputs.py", "        if pages.cut is not None:\n            cut", "        if False:\n            cut", OUTPUTS),
    Mutant("secret member shown through its path", "adf/reporting/outputs.py", "next((step for step in reversed(path.steps) if not _is_index(step)), \"\")", '""', OUTPUTS),
    Mutant("secret of a name and value pair not masked", "adf/redaction.py", "[\\w.-]*(?:{NAMES}|secret|token|authorization)", "(?!)", "tests/unit/adf/test_models.py"),
    Mutant("password of a connection string not masked", "adf/redaction.py", "={0,2}(?=;)", "={0,2}(?=;;)", "tests/unit/adf/test_models.py"),
    Mutant("private key not masked", "adf/redaction.py", "-----BEGIN [A-Z ]*PRIVATE KEY-----", "-----BEGIN (?!)-----", "tests/unit/adf/test_models.py"),
    Mutant("user error retried", "retry.py", "if failure.failure_type == USER_ERROR and not self._is_retried(failure):", "if False:", RETRY),
    Mutant("retry_on ignored", "retry.py", "return any(wanted.lower() in text for wanted in self.retry_on)", "return False", RETRY),
    Mutant("cancelled run started again", "retry.py", "case AdfRunCancelled() if not self.retry_cancelled:", "case AdfRunCancelled() if False:", RETRY),
    Mutant("configuration error retried", "retry.py", "case AdfConfigurationError():", "case AdfConfigurationError() if False:", RETRY),
    Mutant("text accepted as a list of texts", "retry.py", "if isinstance(retry_on, str):", "if False:", RETRY),
    Mutant("large output pushed", "adf/reporting/outputs.py", "if size > LARGEST_OUTPUT_BYTES:", "if False:", OUTPUTS),
    Mutant("credentials in outputs not masked", "adf/reporting/outputs.py", "return redact(value) if isinstance(value, str) else value", "return value", OUTPUTS),
    Mutant("password in outputs not masked", "adf/reporting/outputs.py", 'if names_secret(name) and value not in', "if False and value not in", OUTPUTS),
    Mutant("iterations mixed up", "adf/reporting/outputs.py", "if any(row.iteration_hash for row in ran):", "if False:", OUTPUTS),
    Mutant("invalid path accepted", "adf/reporting/outputs.py", "if not name or steps is None:", "if False:", OUTPUTS),
    Mutant("output with the name of an XCom of the task accepted", "adf/reporting/outputs.py", "    if taken:", "    if False:", OUTPUTS),
    Mutant("pages of outputs not followed", "adf/reporting/outputs.py", "            pages.take(page)\n        rows", "            break\n        rows", OUTPUTS),
    Mutant("retry after unread outputs starts a second run", "_worker/results.py", "            if self._task.durable:\n                raise", "            if True:\n                raise", PUSHED),
    Mutant("secrets of JSON within JSON not masked", "adf/redaction.py", '"(?:(?P<quote>', '"(?:(?!)(?P<quote>', "tests/unit/adf/test_models.py"),
    Mutant("password of an address not masked", "adf/redaction.py", "(?=@)", "(?=@@)", "tests/unit/adf/test_models.py"),
    Mutant("header of basic authentication not masked", "adf/redaction.py", "(?:basic|", "(?:", "tests/unit/adf/test_models.py"),
    Mutant("key of a function app not masked", "adf/redaction.py", "(?<=[?&].{5})|", "", "tests/unit/adf/test_models.py"),
    Mutant("activities requested at every status check", "adf/reporting/activity_log.py", "now - self.queried_at < QUERY_INTERVAL_SECONDS", "False", ACTIVITIES),
    Mutant("budget of requests for a factory exceeded", "adf/reporting/activity_log.py", "if len(taken) >= self._per_minute:", "if False:", ACTIVITIES),
    Mutant("deadline delayed by the activity log", "adf/reporting/activity_log.py", "self.deadline - now < LEAST_SECONDS_LEFT", "False", ACTIVITIES),
    Mutant("refused list of activities requested again", "adf/reporting/activity_log.py", "self.refused = isinstance(page, AdfError) and is_refusal(page)", "self.refused = False", ACTIVITIES),
    Mutant("failed activity log ends the wait", "adf/reporting/activity_log.py", "        except Exception as e:  # noqa: BLE001  the log must not end", "        except ZeroDivisionError as e:  # noqa: BLE001  the log must not end", ACTIVITIES),
    Mutant("activity logged at every status check", "adf/reporting/activity_log.py", "before[key].status != row.status", "True", ACTIVITIES),
    Mutant("activities that are listed late not logged", "adf/reporting/activity_log.py", "since - QUERY_OVERLAP_SECONDS", "since", ACTIVITIES),
    Mutant("unknown mode of the activity log accepted", "adf/reporting/activity_log.py", "    for known in MODES:\n", "    return mode\n    for known in MODES:\n", PROVIDER),
    Mutant("factory in another resource group not suggested", "adf/name_suggestions.py", "    if same:", "    if False:", NAME_SUGGESTIONS),
    Mutant("refused list of names hides the error", "adf/name_suggestions.py", "if not isinstance(names, AdfError):", "if True:", NAME_SUGGESTIONS),
    Mutant("names listed for a missing run", "adf/name_suggestions.py", 'elif error.missing == "factory":', "else:", NAME_SUGGESTIONS),
    Mutant("lineage collected although nobody listens", "_openlineage/run_record.py", "return not conf.is_disabled()", "return True", LINEAGE),
    Mutant("lineage collected for an excluded task", "_openlineage/run_record.py", "return bool(policy.emit and policy.extract_operator_metadata)", "return True", LINEAGE),
    Mutant("failed lineage fails a task", "_openlineage/run_record.py", "except Exception as e:", "except KeyError as e:", f"{LINEAGE} -k unexpected_error"),
    Mutant("lineage needs the provider", "_openlineage/run_record.py", "    except ImportError:\n        return False\n", "    except ZeroDivisionError:\n        return False\n", LINEAGE),
    Mutant("lineage of an active run collected", "_openlineage/run_record.py", "or not self.run.is_terminal or", "or", LINEAGE),
    Mutant("lineage of a failed run not collected", "_openlineage/run_record.py", "if report.explanation is not None:", "if False:", LINEAGE),
    Mutant("parameters of another task shown", "_openlineage/hidden_parameters.py", "known.task() is task and ", "", HIDDEN),
    Mutant("parameters of an earlier rendering used", "_openlineage/hidden_parameters.py", " and known.shown is shown else", " else", HIDDEN),
    Mutant("parameters hidden from the task too", "_openlineage/hidden_parameters.py", "given is None or given is not parameters_of(task)", "given is None", HIDDEN),
    Mutant("lineage sends requests without end", "adf/reporting/request_budget.py", "            self._left -= 1\n", "", DATASETS),
    Mutant("lineage has no time limit", "adf/reporting/request_budget.py", "self._until = self.timing.clock() + self.seconds", "self._until = self.timing.clock() + 60 * self.seconds", DATASETS),
    Mutant("child runs of lineage followed in circles", "adf/reporting/datasets.py", "child and child not in search.seen", "child", DATASETS),
    Mutant("refused list treated as no datasets", "adf/reporting/datasets.py", "            search.record(page)\n", "", DATASETS),
    Mutant("refused definition not reported", "adf/reporting/datasets.py", "            search.record(answer)\n", "            pass\n", DATASETS),
    Mutant("skipped activity counted as moving data", "adf/reporting/datasets.py", "        if row.started_at is None:\n            continue", "        if False:\n            continue", DATASETS),
    Mutant("incomplete amount reported", "adf/reporting/datasets.py", "if len(known) == len(values) else None", "", DATASETS),
    Mutant("data flow treated as a dataset", "adf/reporting/datasets.py", ' or reference.get("type") != "DatasetReference"', "", DATASETS),
    Mutant("secret in a dataset's name not masked", "adf/reporting/datasets.py", "found.append(redact(name))", "found.append(name)", DATASETS),
    Mutant("rows of each attempt counted", "adf/reporting/datasets.py", "for row, _ in final_attempts(pages.rows):", "for row in pages.rows:", DATASETS),
]  # fmt: skip
