"""Mutants of reporting."""

from __future__ import annotations

from tests.mutants import Mutant

TRIGGER = "tests/integration/test_trigger.py"
OPERATOR = "tests/integration/test_operator.py"
PROVIDER = "tests/contract/test_provider.py"
EXPLAIN = "tests/unit/test_explain.py"
REPORT = "tests/unit/test_report.py"
NEAR = "tests/unit/test_near.py"
ACTIVITIES = "tests/unit/test_activity_log.py"
OUTPUTS = "tests/unit/test_outputs.py"
PUSHED = "tests/integration/test_outputs.py"
RETRY = "tests/unit/test_retry.py"
DATASETS = "tests/unit/test_lineage.py"
LINEAGE = "tests/integration/test_lineage.py"
HIDDEN = "tests/unit/test_hidden.py"

MUTANTS = [
    Mutant("timeout does not cancel", "reporting.py", "isinstance(outcome, TimedOut) and cancel_on_timeout", "False", TRIGGER),
    Mutant("message cut twice", "report.py", "PipelineRun.from_essentials", "PipelineRun.from_wire", "tests/unit/test_report.py -k cut"),
    Mutant("failed XCom orphans the run", "../results.py", "        except Exception as e:  # noqa: BLE001", "        except ZeroDivisionError as e:  # noqa: BLE001", OPERATOR),
    Mutant("credentials in messages", "redact.py", 'if "eyJ" in text:', "if False:", "tests/unit/test_models.py"),
    Mutant("failed child not followed", "explain.py", 'if row.activity_type == "ExecutePipeline" else None', 'if row.activity_type == "" else None', EXPLAIN),
    Mutant("child that names its caller followed for ever", "explain.py", "and child not in search.seen", "", f"{EXPLAIN} --timeout=20"),
    Mutant("container taken for a cause", "explain.py", "        if row.activity_type not in CONTAINERS:\n            return False\n", "        return False\n", EXPLAIN),
    Mutant("timed out container left out", "explain.py", "return any(name in names for name in inner_names(row.error_message))", "return True", EXPLAIN),
    Mutant("recovered activity taken for a cause", "explain.py", "    if _may_have_recovered(rows, said):", "    if False:", EXPLAIN),
    Mutant("handled failure comes first", "explain.py", "return not said.names(row.activity_name) or row.activity_type == \"Fail\", _ended(row)", "return False, _ended(row)", EXPLAIN),
    Mutant("Fail activity taken for the first cause", "explain.py", " or row.activity_type == \"Fail\"", "", EXPLAIN),
    Mutant("explanation asks without end", "explain.py", "if self.requests >= MOST_REQUESTS:", "if False:", EXPLAIN),
    Mutant("explanation takes its time", "explain.py", "elif self.clock() > self.until:", "elif False:", EXPLAIN),
    Mutant("list that is behind taken for all", "explain.py", "if pages.next() is None and not pages.rows and again_if_empty and search.may_rest():", "if False:", EXPLAIN),
    Mutant("explanation given up at the first fault", "explain.py", "elif isinstance(page, AdfThrottledError | AdfUnavailableError) and search.may_rest():", "elif False:", EXPLAIN),
    Mutant("explanation that fails hides the failure", "explain.py", "        else:\n            search.missing = cap(", "        else:\n            raise page\n            search.missing = cap(", EXPLAIN),
    Mutant("long message not cut", "failure.py", "cap(run.error_message, LONGEST_MESSAGE)", "run.error_message", EXPLAIN),
    Mutant("event of an older version", "report.py", 'if payload.get("explanation") else None', 'if payload["explanation"] else None', REPORT),
    Mutant("own cancel taken for somebody's", "reporting.py", "if answer is Cancel.PERHAPS and", "if False and", REPORT),
    Mutant("odd answer hides the failure", "reporting.py", "    except Exception as e:  # noqa: BLE001  whatever an answer makes go wrong", "    except ZeroDivisionError as e:  # noqa: BLE001  whatever an answer makes go wrong", REPORT),
    Mutant("handled user error ends the retries", "../retry.py", 'if any(failure.is_named and failure.activity_type != "Fail" for failure in failures):', "if False:", RETRY),
    Mutant("handled failure taken for a cause", "explain.py", "first if is_named else", "first if True else", EXPLAIN),
    Mutant("part of a list passes for the whole", "outputs.py", "        if pages.cut is not None:\n            cut", "        if False:\n            cut", OUTPUTS),
    Mutant("secret member reached by its path", "outputs.py", "next((step for step in reversed(path.steps) if not _is_index(step)), \"\")", '""', OUTPUTS),
    Mutant("secret of a name and value pair", "redact.py", "[\\w.-]*(?:{NAMES}|secret|token|authorization)", "(?!)", "tests/unit/test_models.py"),
    Mutant("password of a connection string", "redact.py", "={0,2}(?=;)", "={0,2}(?=;;)", "tests/unit/test_models.py"),
    Mutant("private key", "redact.py", "-----BEGIN [A-Z ]*PRIVATE KEY-----", "-----BEGIN (?!)-----", "tests/unit/test_models.py"),
    Mutant("user error retried", "../retry.py", "if failure.failure_type == USER_ERROR and not self._is_retried(failure):", "if False:", RETRY),
    Mutant("retry_on not heeded", "../retry.py", "return any(text.lower() in said for text in self.retry_on)", "return False", RETRY),
    Mutant("cancelled run started again", "../retry.py", "case AdfRunCancelled() if not self.retry_cancelled:", "case AdfRunCancelled() if False:", RETRY),
    Mutant("wrong configuration retried", "../retry.py", "case AdfConfigurationError():", "case AdfConfigurationError() if False:", RETRY),
    Mutant("text for a list of texts", "../retry.py", "if isinstance(retry_on, str):", "if False:", RETRY),
    Mutant("large output pushed", "outputs.py", "if size > LARGEST:", "if False:", OUTPUTS),
    Mutant("credentials in outputs", "outputs.py", "return redact(value) if isinstance(value, str) else value", "return value", OUTPUTS),
    Mutant("password in outputs", "outputs.py", 'if names_secret(name) and value not in', "if False and value not in", OUTPUTS),
    Mutant("iterations mixed up", "outputs.py", "if any(row.iteration_hash for row in ran):", "if False:", OUTPUTS),
    Mutant("path that is none", "outputs.py", "if not name or steps is None:", "if False:", OUTPUTS),
    Mutant("output over an XCom of the task", "outputs.py", "    if taken:", "    if False:", OUTPUTS),
    Mutant("pages of outputs not followed", "outputs.py", "            pages.take(page)\n        rows", "            break\n        rows", OUTPUTS),
    Mutant("unread outputs start a second run", "../results.py", "            if self._task.durable:\n                raise", "            if True:\n                raise", PUSHED),
    Mutant("secrets of JSON within JSON", "redact.py", '"(?:(?P<quote>', '"(?:(?!)(?P<quote>', "tests/unit/test_models.py"),
    Mutant("password of an address", "redact.py", "(?=@)", "(?=@@)", "tests/unit/test_models.py"),
    Mutant("header of basic authentication", "redact.py", "(?:basic|", "(?:", "tests/unit/test_models.py"),
    Mutant("key of a function app", "redact.py", "(?<=[?&].{5})|", "", "tests/unit/test_models.py"),
    Mutant("activities asked for at every look", "activity_log.py", "now - self.looked_at < INTERVAL", "False", ACTIVITIES),
    Mutant("factory's budget not kept", "activity_log.py", "if len(taken) >= self._per_minute:", "if False:", ACTIVITIES),
    Mutant("deadline put off by the activity log", "activity_log.py", "self.deadline - now < LEAST_LEFT", "False", ACTIVITIES),
    Mutant("refused list asked for again", "activity_log.py", "self.refused = isinstance(page, AdfError) and is_refusal(page)", "self.refused = False", ACTIVITIES),
    Mutant("activity log ends the wait", "activity_log.py", "        except Exception as e:  # noqa: BLE001  whatever an activity's", "        except ZeroDivisionError as e:  # noqa: BLE001  whatever an activity's", ACTIVITIES),
    Mutant("activity logged at every look", "activity_log.py", "before[key].status != row.status", "True", ACTIVITIES),
    Mutant("list that is late missed", "activity_log.py", "since - OVERLAP", "since", ACTIVITIES),
    Mutant("mode that is none", "activity_log.py", "    for known in MODES:\n", "    return mode\n    for known in MODES:\n", PROVIDER),
    Mutant("factory in another group not seen", "near.py", "    if same:", "    if False:", NEAR),
    Mutant("refused list of names hides the error", "near.py", "if not isinstance(names, AdfError):", "if True:", NEAR),
    Mutant("names listed for a missing run", "near.py", 'elif error.missing == "factory":', "else:", NEAR),
    Mutant("lineage asked for where nobody listens", "../trace.py", "return not conf.is_disabled()", "return True", LINEAGE),
    Mutant("lineage asked for a task that is left out", "../trace.py", "return bool(policy.emit and policy.extract_operator_metadata)", "return True", LINEAGE),
    Mutant("lineage fails a task", "../trace.py", "except Exception as e:", "except KeyError as e:", f"{LINEAGE} -k foresaw"),
    Mutant("lineage needs the provider", "../trace.py", "    except ImportError:\n        return False\n", "    except ZeroDivisionError:\n        return False\n", LINEAGE),
    Mutant("lineage of a run that goes on", "../trace.py", "or not self.run.is_terminal or", "or", LINEAGE),
    Mutant("lineage without activities that failed", "../trace.py", "if report.explanation is not None:", "if False:", LINEAGE),
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
    Mutant("each attempt's rows", "lineage.py", "for row, _ in final_attempts(pages.rows):", "for row in pages.rows:", DATASETS),
]  # fmt: skip
