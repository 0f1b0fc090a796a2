"""Mutants of reading answers and following pages."""

from __future__ import annotations

from tests.mutants import Mutant

MODELS = "tests/unit/adf/test_models.py"
TIMES = "tests/unit/adf/test_times.py"
PAGING = "tests/unit/adf/api/test_paging.py"
OUTPUTS = "tests/unit/adf/reporting/test_outputs.py"
START = "tests/unit/adf/starting/test_create_run.py"
POLL_PLAN = "tests/unit/adf/waiting/test_poll_plan.py"
SINGLE_RUN = "tests/unit/adf/waiting/test_single_run.py"
REPORT = "tests/unit/adf/reporting/test_report.py"
ACTIVITIES = "tests/unit/adf/reporting/test_activity_log.py"
EXPLAIN = "tests/unit/adf/reporting/test_explain.py"
LINEAGE = "tests/unit/adf/reporting/test_datasets.py"
ODD_JSON = "tests/unit/adf/test_odd_json.py"
ODD_ANSWERS = "tests/integration/test_odd_answers.py"

MUTANTS = [
    # Unreadable answers.
    Mutant("time in another format not read", "adf/times.py", "    if match is None:\n", "    if True:\n", TIMES),
    Mutant("value that is not a time raises", "adf/times.py", "    except (OverflowError, ValueError):\n        return None", "    except ZeroDivisionError:\n        return None", f"{ODD_ANSWERS} -k another_format"),
    Mutant("run without a status accepted", "adf/models.py", '_required(wire, "status")', '_word(wire.get("status")) or ""', f"{ODD_ANSWERS} -k stay_unreadable"),
    Mutant("bad row drops its page", "adf/api/operations.py", "        except UNREADABLE as e:\n            unreadable", "        except ZeroDivisionError as e:\n            unreadable", PAGING),
    Mutant("bad rows left out without a warning", "adf/api/paging.py", "        if page.unreadable and not self.unreadable:", "        if False:", PAGING),
    Mutant("each page warns of bad rows", "adf/api/paging.py", "if page.unreadable and not self.unreadable:", "if page.unreadable:", PAGING),
    Mutant("answer about another run treated as its end", "adf/api/operations.py", "    if run.run_id.lower() != run_id.lower():", "    if False:", f"{ODD_ANSWERS} -k another_run"),
    Mutant("lasting unreadable answers never end a wait", "adf/waiting/single_run.py", "return is_refusal(error) or is_unreadable(error)", "return is_refusal(error)", SINGLE_RUN),
    Mutant("unreadable answers about one run delay all waits", "adf/waiting/failure_tracker.py", "return not has_grace(error) or isinstance(error, ours)", "return not is_refusal(error) or isinstance(error, ours)", POLL_PLAN),
    Mutant("unreadable answer treated as an outage", "adf/api/error_mapping.py", "        unreadable=True,\n", "", f"{ODD_ANSWERS} -k stay_unreadable"),
    Mutant("unreadable answers reported as refusals", "adf/reporting/report.py", "elif is_unreadable(outcome.error):", "elif False:", f"{ODD_ANSWERS} -k stay_unreadable"),
    Mutant("run that had ended reported as cancelled", "adf/reporting/conclude.py", "cancel=ALREADY_OVER)", "cancel=REQUESTED)", REPORT),
    Mutant("one unreadable status check hides an end", "adf/reporting/conclude.py", "LAST_POLLS = 3", "LAST_POLLS = 1", f"{REPORT} -k does_not_hide"),
    Mutant("deeply nested answer of createRun starts two runs", "adf/models.py", "LookupError, RecursionError, TypeError", "LookupError, TypeError", f"{ODD_ANSWERS} -k createrun"),
    Mutant("older run with unreadable answers stops clears for ever", "adf/starting/superseded_run.py", "isinstance(seen, AdfNotFoundError) or is_unreadable(seen)", "isinstance(seen, AdfNotFoundError)", "tests/unit/adf/starting/test_start_or_adopt.py -k unreadable_answers"),
    # Invalid times and numbers.
    Mutant("year 1 accepted as a time", "adf/times.py", "if EARLIEST < aware < LATEST else None", "if True else None", TIMES),
    Mutant("start in the future narrows the window", "adf/times.py", "min(started_at, today)", "started_at", TIMES),
    Mutant("moment out of range raises", "adf/times.py", "min(max(0.0, epoch_seconds), LATEST.timestamp())", "epoch_seconds", TIMES),
    Mutant("infinite number accepted", "adf/times.py", "return value if math.isfinite(value) else None", "return value", TIMES),
    Mutant("number longer than a float raises", "adf/times.py", "    except OverflowError:\n        return None", "    except ZeroDivisionError:\n        return None", TIMES),
    Mutant("negative duration accepted", "adf/times.py", "and 0 <= known <= LONGEST_SECONDS * 1000 else None", "else None", TIMES),
    Mutant("infinite number pushed as XCom", "adf/reporting/outputs.py", "json.dumps(value, allow_nan=False)", "json.dumps(value)", OUTPUTS),
    Mutant("amount that is longer than a float raises", "adf/reporting/activity_log.py", "[float(value) for value in map(read_number, found) if value is not None]", "[value for value in found if isinstance(value, int)]", f"{ACTIVITIES} -k amount"),
    # Lists that never end.
    Mutant("activities without an id counted as one", "adf/reporting/activity_log.py", 'return row.activity_run_id or f"', 'return row.activity_run_id or "" and f"', ACTIVITIES),
    Mutant("same continuation token followed for ever", "adf/api/paging.py", "        if token in self._sent:", "        if False:", PAGING),
    Mutant("pages followed for ever", "adf/api/paging.py", "        if self._pages >= self._most:", "        if False:", f"{PAGING} -k limit_of_pages"),
    Mutant("list cut without a warning", "adf/api/paging.py", '        log.warning("Could not %s to the end', '        log.debug("Could not %s to the end', PAGING),
    Mutant("continuation token that is not text sent", "adf/api/paging.py", "        if not isinstance(token, str):", "        if False:", PAGING),
    Mutant("links of the official client followed for ever", "adf/api/client.py", "        items += page\n        if len(items) >= MOST_LISTED or not follow.on(pages.continuation_token):", "        items += page\n        if len(items) >= MOST_LISTED:", f"{ODD_ANSWERS} -k official"),
    Mutant("search for a lost start without an end", "adf/starting/find_run.py", "if pages.next() is not None and timing.clock() > until:", "if False:", START),
    Mutant("part of a list proves that a run is the only one", "adf/starting/find_run.py", "    if pages.cut is not None:", "    if False:", START),
    Mutant("truncated list of activities reported as complete", "adf/reporting/explain.py", "            search.record(pages.cut)\n", "            pass\n", f"{EXPLAIN} -k repeats"),
    Mutant("truncated list reported as complete lineage", "adf/reporting/datasets.py", "    search.record(pages.cut)\n", "", f"{LINEAGE} -k repeats"),
    # Rows on two pages.
    Mutant("row on two pages counts twice", "adf/api/paging.py", "        kept[_id_of(row) or number] = row", "        kept[number] = row", PAGING),
    Mutant("rows without an id counted as one", "adf/api/paging.py", "_id_of(row) or number", "_id_of(row)", PAGING),
    Mutant("row in two queries counts twice", "adf/reporting/outputs.py", "return taken(wanted, distinct(rows), cut)", "return taken(wanted, rows, cut)", OUTPUTS),
    # Members of odd types.
    Mutant("error that is a text not shown", "adf/models.py", "return None, _text(value), None", "return None, None, None", MODELS),
    Mutant("message that is an object not shown", "adf/models.py", "json.dumps(value, ensure_ascii=False))\n\n", '"")\n\n', MODELS),
    Mutant("details of an error not shown", "adf/models.py", "    for detail in details[:MOST_DETAILS]", "    for detail in details[:0]", MODELS),
    Mutant("odd is_latest accepted", "adf/models.py", "is_latest=is_latest if isinstance(is_latest, bool) else None", "is_latest=is_latest", MODELS),
    Mutant("parameter that is not text accepted", "adf/models.py", "item if isinstance(item, str) else json.dumps(item)", "item", MODELS),
    Mutant("deeply nested answer raises", "adf/models.py", "        if depth >= MOST_DEPTH:", "        if False:", MODELS),
    Mutant("text that databases refuse kept", "adf/models.py", "value if value.isprintable() else _storable(value)", "value", MODELS),
    Mutant("odd origin of a run ends the search", "adf/starting/find_run.py", 'if isinstance(invoked_by, Mapping) else "Manual"', 'if invoked_by else "Manual"', START),
    Mutant("odd name of a pipeline ends the lineage", "adf/reporting/datasets.py", "        except AdfConfigurationError as e:  # the service", "        except ZeroDivisionError as e:  # the service", ODD_JSON),
    Mutant("odd definition ends the lineage", "adf/reporting/datasets.py", "return value if isinstance(value, list) else []", "return value or []", ODD_JSON),
    # Quoted names, and other cases.
    Mutant("Data Factory expression not read", "adf/reporting/outputs.py", "        if expression is not None:", "        if False:", OUTPUTS),
    Mutant("quote within a quoted name not read", "adf/reporting/outputs.py", """return name.replace("''", "'")""", "return name", OUTPUTS),
    Mutant("another expression treated as an activity", "adf/reporting/outputs.py", "        elif _OTHER_EXPRESSION.match(text):", "        elif False:", OUTPUTS),
    Mutant("member with dots not suggested", "adf/reporting/outputs.py", "        if member in value:", "        if False:", OUTPUTS),
    Mutant("answer that cannot be decompressed ends the trigger", "adf/models.py", "ValueError, zlib.error)", "ValueError)", f"{ODD_ANSWERS} -k decompressed"),
    Mutant("unreadable row ignored by the search for a lost start", "adf/starting/find_run.py", "    if pages.unreadable:\n", "    if False:\n", "tests/unit/adf/starting/test_create_run.py -k unreadable_row"),
    Mutant("outage that cannot be decompressed treated as a refusal", "adf/api/responses.py", "if status is not None and status >= 300:", "if False:", f"{ODD_ANSWERS} -k decompressed"),
    Mutant("unreadable JSON treated as an outage, blocking", "adf/api/error_mapping.py", "    if response.status_code < 300:\n", "    if False:\n", f"{ODD_ANSWERS} -k stay_unreadable"),
]  # fmt: skip
