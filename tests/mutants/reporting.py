"""Mutants of reporting."""

from __future__ import annotations

from tests.mutants import Mutant

TRIGGER = "tests/integration/triggers/test_wait.py"
OPERATOR = "tests/integration/test_operators.py"
PROVIDER = "tests/contract/test_provider.py"
EXPLAIN = "tests/unit/adf/reporting/test_explain.py"
REPORT = "tests/unit/adf/reporting/test_report.py"
NEAR = "tests/unit/adf/test_name_suggestions.py"
ACTIVITIES = "tests/unit/adf/reporting/test_activity_log.py"
OUTPUTS = "tests/unit/adf/reporting/test_outputs.py"
PUSHED = "tests/integration/adf/reporting/test_outputs.py"
RETRY = "tests/unit/test_retry.py"
DATASETS = "tests/unit/adf/reporting/test_datasets.py"
LINEAGE = "tests/integration/_openlineage/test_facets.py"
HIDDEN = "tests/unit/_openlineage/test_hidden_parameters.py"

MUTANTS = [
    Mutant("timeout does not cancel", "adf/reporting/conclude.py", "isinstance(outcome, TimedOut) and cancel_on_timeout", "False", TRIGGER),
    Mutant("message cut twice", "adf/reporting/report.py", "PipelineRun.from_essentials", "PipelineRun.from_wire", "tests/unit/adf/reporting/test_report.py -k cut"),
    Mutant("failed XCom orphans the run", "_worker/results.py", "        except Exception as e:  # noqa: BLE001", "        except ZeroDivisionError as e:  # noqa: BLE001", OPERATOR),
    Mutant("credentials in messages", "adf/redaction.py", 'if "eyJ" in text:', "if False:", "tests/unit/adf/test_models.py"),
    Mutant("failed child not followed", "adf/reporting/explain.py", 'if row.activity_type == "ExecutePipeline" else None', 'if row.activity_type == "" else None', EXPLAIN),
    Mutant("child that names its caller followed for ever", "adf/reporting/explain.py", "and child not in search.seen", "", f"{EXPLAIN} --timeout=20"),
    Mutant("container taken for a cause", "adf/reporting/explain.py", "        if row.activity_type not in CONTAINERS:\n            return False\n", "        return False\n", EXPLAIN),
    Mutant("timed out container left out", "adf/reporting/explain.py", "return any(name in names for name in inner_names(row.error_message))", "return True", EXPLAIN),
    Mutant("recovered activity taken for a cause", "adf/reporting/explain.py", "    if _may_have_recovered(rows, message_of_run):", "    if False:", EXPLAIN),
    Mutant("handled failure comes first", "adf/reporting/explain.py", "return not message_of_run.names(row.activity_name) or row.activity_type == \"Fail\", _ended(row)", "return False, _ended(row)", EXPLAIN),
    Mutant("Fail activity taken for the first cause", "adf/reporting/explain.py", " or row.activity_type == \"Fail\"", "", EXPLAIN),
    Mutant("explanation asks without end", "adf/reporting/request_budget.py", "if self._left <= 0:", "if False:", EXPLAIN),
    Mutant("explanation takes its time", "adf/reporting/request_budget.py", "elif self.timing.clock() > self._until:", "elif False:", EXPLAIN),
    Mutant("list that is behind taken for all", "adf/reporting/explain.py", "if pages.next() is None and not pages.rows and again_if_empty and search.may_pause():", "if False:", EXPLAIN),
    Mutant("explanation given up at the first fault", "adf/reporting/explain.py", "elif isinstance(page, AdfThrottledError | AdfUnavailableError) and search.may_pause():", "elif False:", EXPLAIN),
    Mutant("explanation that fails hides the failure", "adf/reporting/explain.py", "        else:\n            search.record(cap(", "        else:\n            raise page\n            search.record(cap(", EXPLAIN),
    Mutant("long message not cut", "adf/activity_failures.py", "cap(run.error_message, LONGEST_MESSAGE)", "run.error_message", EXPLAIN),
    Mutant("event of an older version", "adf/reporting/report.py", 'if payload.get("explanation") else None', 'if payload["explanation"] else None', REPORT),
    Mutant("own cancel taken for somebody's", "adf/reporting/conclude.py", "if answer is Cancel.PERHAPS and", "if False and", REPORT),
    Mutant("odd answer hides the failure", "adf/reporting/conclude.py", "    except Exception as e:  # noqa: BLE001  whatever the answer was", "    except ZeroDivisionError as e:  # noqa: BLE001  whatever the answer was", REPORT),
    Mutant("handled user error ends the retries", "retry.py", 'if any(failure.is_named and failure.activity_type != "Fail" for failure in failures):', "if False:", RETRY),
    Mutant("handled failure taken for a cause", "adf/reporting/explain.py", "first if is_named else", "first if True else", EXPLAIN),
    Mutant("part of a list passes for the whole", "adf/reporting/outputs.py", "        if pages.cut is not None:\n            cut", "        if False:\n            cut", OUTPUTS),
    Mutant("secret member reached by its path", "adf/reporting/outputs.py", "next((step for step in reversed(path.steps) if not _is_index(step)), \"\")", '""', OUTPUTS),
    Mutant("secret of a name and value pair", "adf/redaction.py", "[\\w.-]*(?:{NAMES}|secret|token|authorization)", "(?!)", "tests/unit/adf/test_models.py"),
    Mutant("password of a connection string", "adf/redaction.py", "={0,2}(?=;)", "={0,2}(?=;;)", "tests/unit/adf/test_models.py"),
    Mutant("private key", "adf/redaction.py", "-----BEGIN [A-Z ]*PRIVATE KEY-----", "-----BEGIN (?!)-----", "tests/unit/adf/test_models.py"),
    Mutant("user error retried", "retry.py", "if failure.failure_type == USER_ERROR and not self._is_retried(failure):", "if False:", RETRY),
    Mutant("retry_on not heeded", "retry.py", "return any(wanted.lower() in text for wanted in self.retry_on)", "return False", RETRY),
    Mutant("cancelled run started again", "retry.py", "case AdfRunCancelled() if not self.retry_cancelled:", "case AdfRunCancelled() if False:", RETRY),
    Mutant("wrong configuration retried", "retry.py", "case AdfConfigurationError():", "case AdfConfigurationError() if False:", RETRY),
    Mutant("text for a list of texts", "retry.py", "if isinstance(retry_on, str):", "if False:", RETRY),
    Mutant("large output pushed", "adf/reporting/outputs.py", "if size > LARGEST_OUTPUT_BYTES:", "if False:", OUTPUTS),
    Mutant("credentials in outputs", "adf/reporting/outputs.py", "return redact(value) if isinstance(value, str) else value", "return value", OUTPUTS),
    Mutant("password in outputs", "adf/reporting/outputs.py", 'if names_secret(name) and value not in', "if False and value not in", OUTPUTS),
    Mutant("iterations mixed up", "adf/reporting/outputs.py", "if any(row.iteration_hash for row in ran):", "if False:", OUTPUTS),
    Mutant("path that is none", "adf/reporting/outputs.py", "if not name or steps is None:", "if False:", OUTPUTS),
    Mutant("output over an XCom of the task", "adf/reporting/outputs.py", "    if taken:", "    if False:", OUTPUTS),
    Mutant("pages of outputs not followed", "adf/reporting/outputs.py", "            pages.take(page)\n        rows", "            break\n        rows", OUTPUTS),
    Mutant("unread outputs start a second run", "_worker/results.py", "            if self._task.durable:\n                raise", "            if True:\n                raise", PUSHED),
    Mutant("secrets of JSON within JSON", "adf/redaction.py", '"(?:(?P<quote>', '"(?:(?!)(?P<quote>', "tests/unit/adf/test_models.py"),
    Mutant("password of an address", "adf/redaction.py", "(?=@)", "(?=@@)", "tests/unit/adf/test_models.py"),
    Mutant("header of basic authentication", "adf/redaction.py", "(?:basic|", "(?:", "tests/unit/adf/test_models.py"),
    Mutant("key of a function app", "adf/redaction.py", "(?<=[?&].{5})|", "", "tests/unit/adf/test_models.py"),
    Mutant("activities asked for at every look", "adf/reporting/activity_log.py", "now - self.queried_at < QUERY_INTERVAL_SECONDS", "False", ACTIVITIES),
    Mutant("factory's budget not kept", "adf/reporting/activity_log.py", "if len(taken) >= self._per_minute:", "if False:", ACTIVITIES),
    Mutant("deadline put off by the activity log", "adf/reporting/activity_log.py", "self.deadline - now < LEAST_SECONDS_LEFT", "False", ACTIVITIES),
    Mutant("refused list asked for again", "adf/reporting/activity_log.py", "self.refused = isinstance(page, AdfError) and is_refusal(page)", "self.refused = False", ACTIVITIES),
    Mutant("activity log ends the wait", "adf/reporting/activity_log.py", "        except Exception as e:  # noqa: BLE001  the log must not end", "        except ZeroDivisionError as e:  # noqa: BLE001  the log must not end", ACTIVITIES),
    Mutant("activity logged at every look", "adf/reporting/activity_log.py", "before[key].status != row.status", "True", ACTIVITIES),
    Mutant("list that is late missed", "adf/reporting/activity_log.py", "since - QUERY_OVERLAP_SECONDS", "since", ACTIVITIES),
    Mutant("mode that is none", "adf/reporting/activity_log.py", "    for known in MODES:\n", "    return mode\n    for known in MODES:\n", PROVIDER),
    Mutant("factory in another group not seen", "adf/name_suggestions.py", "    if same:", "    if False:", NEAR),
    Mutant("refused list of names hides the error", "adf/name_suggestions.py", "if not isinstance(names, AdfError):", "if True:", NEAR),
    Mutant("names listed for a missing run", "adf/name_suggestions.py", 'elif error.missing == "factory":', "else:", NEAR),
    Mutant("lineage asked for where nobody listens", "_openlineage/run_record.py", "return not conf.is_disabled()", "return True", LINEAGE),
    Mutant("lineage asked for a task that is left out", "_openlineage/run_record.py", "return bool(policy.emit and policy.extract_operator_metadata)", "return True", LINEAGE),
    Mutant("lineage fails a task", "_openlineage/run_record.py", "except Exception as e:", "except KeyError as e:", f"{LINEAGE} -k foresaw"),
    Mutant("lineage needs the provider", "_openlineage/run_record.py", "    except ImportError:\n        return False\n", "    except ZeroDivisionError:\n        return False\n", LINEAGE),
    Mutant("lineage of a run that goes on", "_openlineage/run_record.py", "or not self.run.is_terminal or", "or", LINEAGE),
    Mutant("lineage without activities that failed", "_openlineage/run_record.py", "if report.explanation is not None:", "if False:", LINEAGE),
    Mutant("another task's parameters", "_openlineage/hidden_parameters.py", "known.task() is task and ", "", HIDDEN),
    Mutant("parameters of an earlier rendering", "_openlineage/hidden_parameters.py", " and known.shown is shown else", " else", HIDDEN),
    Mutant("parameters hidden for good", "_openlineage/hidden_parameters.py", "given is None or given is not parameters_of(task)", "given is None", HIDDEN),
    Mutant("lineage without an end", "adf/reporting/request_budget.py", "            self._left -= 1\n", "", DATASETS),
    Mutant("lineage takes its time", "adf/reporting/request_budget.py", "self._until = self.timing.clock() + self.seconds", "self._until = self.timing.clock() + 60 * self.seconds", DATASETS),
    Mutant("lineage in circles", "adf/reporting/datasets.py", "child and child not in search.seen", "child", DATASETS),
    Mutant("refused list taken for no datasets", "adf/reporting/datasets.py", "            search.record(page)\n", "", DATASETS),
    Mutant("refused definition not told", "adf/reporting/datasets.py", "            search.record(answer)\n", "            pass\n", DATASETS),
    Mutant("skipped activity moved data", "adf/reporting/datasets.py", "        if row.started_at is None:\n            continue", "        if False:\n            continue", DATASETS),
    Mutant("amount that is not all", "adf/reporting/datasets.py", "if len(known) == len(values) else None", "", DATASETS),
    Mutant("data flow taken for a dataset", "adf/reporting/datasets.py", ' or reference.get("type") != "DatasetReference"', "", DATASETS),
    Mutant("secret in a dataset's name", "adf/reporting/datasets.py", "found.append(redact(name))", "found.append(name)", DATASETS),
    Mutant("each attempt's rows", "adf/reporting/datasets.py", "for row, _ in final_attempts(pages.rows):", "for row in pages.rows:", DATASETS),
]  # fmt: skip
