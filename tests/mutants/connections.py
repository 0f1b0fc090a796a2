"""Mutants of connections of the provider's type, missing values, the check and the two commands."""

from __future__ import annotations

from tests.mutants import Mutant

CONNECTION = "tests/unit/adf/test_connection_fields.py"
PROVIDER_CONNECTIONS = "tests/contract/test_provider_connections.py"
SOURCES = "tests/unit/adf/auth/test_identity_sources.py"
MISSING = "tests/integration/test_missing_values.py"
CLI = "tests/integration/test_cli.py"
HOOKS = "tests/integration/test_hooks.py"
EMULATOR = "tests/integration/emulator/test_main.py"

MUTANTS = [
    Mutant("field that the provider ignores refused", "adf/connection_fields.py", "            if not is_providers:\n                raise AdfConfigurationError(_unknown(name))", "            if True:\n                raise AdfConfigurationError(_unknown(name))", f"{PROVIDER_CONNECTIONS} -k each_field"),
    Mutant("login alone refused for the provider's type", "adf/connection_fields.py", "if conn_type == CONN_TYPE and ignored:", "if ignored:", f"{PROVIDER_CONNECTIONS} -k each_field"),
    Mutant("old name of a field preferred to the short one", "adf/connection_fields.py", "sorted(extra.items(), key=lambda item: item[0].startswith(_PREFIXES))", "extra.items()", f"{PROVIDER_CONNECTIONS} -k short_name"),
    Mutant("number as a factory refused for the provider's type", "adf/connection_fields.py", "if numbers and isinstance", "if False and isinstance", f"{PROVIDER_CONNECTIONS} -k short_name"),
    Mutant("secret under another prefix accepted", "adf/connection_fields.py", '_ANY_PREFIX.sub("", key, count=1).lower()', "name.lower()", f"{PROVIDER_CONNECTIONS} -k secret"),
    Mutant("connection without an identity refused in a pod", "adf/connection_fields.py", "return IdentityKind.PLATFORM if conn_type == PROVIDER_CONN_TYPE else IdentityKind", "return IdentityKind", f"{PROVIDER_CONNECTIONS} -k identity_that"),
    Mutant("identity of the provider's type not logged", "adf/connection_fields.py", "    if conn_type == PROVIDER_CONN_TYPE:\n        log_once", "    if False:\n        log_once", f"{PROVIDER_CONNECTIONS} -k identity_that"),
    Mutant("log line repeated each time", "adf/log_once.py", "@functools.lru_cache(maxsize=256)\n", "@functools.lru_cache(maxsize=0)\n", f"{PROVIDER_CONNECTIONS} -k one_log_line"),
    Mutant("fields that the provider reads only together accepted alone", "adf/auth/identity_choice.py", "client_id if client_id and tenant_id else", "client_id if client_id else", f"{PROVIDER_CONNECTIONS} -k identity_that"),
    Mutant("ignored principal of the environment not logged", "adf/auth/identity_choice.py", "in _PRINCIPALS:", "in _PRINCIPALS[:0]:", f"{PROVIDER_CONNECTIONS} -k principal"),
    Mutant("ignored AZURE_CLIENT_ID not logged", "adf/auth/identity_choice.py", 'else environ.get("AZURE_CLIENT_ID")', "else None", f"{PROVIDER_CONNECTIONS} -k identity_that"),
    Mutant("another source preferred to workload identity", "adf/auth/identity_sources.py", "if identity.kind is IdentityKind.PLATFORM and offers_workload_identity(environ):", "if False:", SOURCES),
    Mutant("option added to the connection's identity", "adf/connection_fields.py", "if any(instead.get(name) for name in NAMES):", "if False:", CONNECTION),
    Mutant("URI with underscores not explained", "adf/connection_fields.py", '(schema or "").startswith("zure_data_factory")', "False", CONNECTION),
    Mutant("connection without a type not explained", "adf/connection_fields.py", "    if not conn_type:\n", "    if False:\n", CONNECTION),
    Mutant("unreadable connection variable reported as missing", "_airflow/connections.py", "if environ.get(variable):", "if False:", f"{CLI} -k variable"),
    Mutant("unknown members of stored settings not ignored", "adf/stored_forms.py", "{field.name: stored[field.name] for field in fields(kind) if field.name in stored}", "dict(stored)", CONNECTION),
    Mutant("tenant by its domain refused", "adf/config/settings.py", "and not _DOMAIN.fullmatch(tenant)", "", CONNECTION),
    Mutant("article repeated before the developer", "adf/config/settings.py", 'return "developer signed in', 'return "the developer signed in', CONNECTION),
    Mutant("password in an address shown", "adf/config/settings.py", 'shown = f"***@{host}" if at else before or host', "shown = self.arm_endpoint", CONNECTION),
    Mutant("example of a scope treated as its rule", "adf/config/settings.py", "which is not a token scope. It must begin", "It looks like", CONNECTION),
    Mutant("user-assigned identity reported as system-assigned", "adf/auth/token_errors.py", "    if name is not None:\n        return f\"user-assigned", "    if False:\n        return f\"user-assigned", f"{CLI} -k instead_of"),
    Mutant("token of another identity not reported", "adf/auth/token_errors.py", "log_once(__name__, logging.WARNING, f\"{how", "log_once(__name__, logging.DEBUG, f\"{how", f"{CLI} -k instead_of"),
    Mutant("warning logged in every pod", "adf/auth/token_errors.py", "if how.source is not Source.WORKLOAD_IDENTITY and (surprise", "if (surprise", f"{PROVIDER_CONNECTIONS} -k identity_that"),
    Mutant("null treated as a name", "adf/config/validation.py", "    if text in _NOTHING:", '    if text in ("", "None"):', MISSING),
    Mutant("null treated as the reference of a recovery", "adf/api/recovery.py", "    if not is_given(value):\n        return None\n", "", MISSING),
    Mutant("hook requests run None", "hooks.py", "operations.get_run(factory, check_run_id(run_id))", "operations.get_run(factory, run_id)", MISSING),
    Mutant("hook cancels run None", "hooks.py", "operations.cancel_run(factory, check_run_id(run_id), ", "operations.cancel_run(factory, run_id, ", MISSING),
    Mutant("asynchronous hook requests run None", "async_hooks.py", "operations.get_run(factory, check_run_id(run_id))", "operations.get_run(factory, run_id)", MISSING),
    Mutant("connection id None accepted", "_airflow/connections.py", 'return required_text("azure_data_factory_conn_id", conn_id)', "return str(conn_id)", MISSING),
    Mutant("factory without its resource group ignored", "adf/connection_check.py", "if settings.resource_group_name or settings.factory_name or pipeline_name is not None:", "if settings.resource_group_name and settings.factory_name:", f"{CLI} -k or_resource_group_is_missing"),
    Mutant("check of a subscription alone reported as complete", "adf/connection_check.py", 'if findings[-1].step == "subscription":', "if False:", f"{CLI} -k without_a_factory"),
    Mutant("two lines about the connection printed", "adf/connection_check.py", "return [unusable(e)]", 'return [Finding(step="connection", holds=CheckStatus.YES, detail=""), unusable(e)]', f"{CLI} -k one_line"),
    Mutant("unknown subscription treated as a factory", "adf/connection_check.py", 'if isinstance(found, AdfRequestError) and "subscription" in', 'if False and "subscription" in', f"{CLI} -k unknown_subscription"),
    Mutant("error of an unknown subscription not explained", "adf/api/error_mapping.py", " or code in _SUBSCRIPTION_MISSING:", ":", f"{CLI} -k unknown_subscription"),
    Mutant("empty pipeline name ignored", "adf/connection_check.py", "_nowhere() if pipeline_name is None else pipeline_name", "pipeline_name or _nowhere()", f"{CLI} -k empty_pipeline"),
    Mutant("probable permission reported as certain by test_connection", "adf/connection_check.py", "f.step.startswith(MAY) and f.holds is holds", "f.step.startswith(MAY) and holds is CheckStatus.YES", f"{HOOKS} -k checks_the_service"),
    Mutant("role without options does not read the connection", "cli.py", "if conn_id is None and set(given) == set(_SCOPE):", "if True:", f"{CLI} -k role_takes"),
    Mutant("role with options imports Airflow", "cli.py", "if conn_id is None and set(given) == set(_SCOPE):", "if False:", f"{CLI} -k 'as_a_command or need_no_airflow'"),
    Mutant("wrong command line has the exit status of a failed check", "cli.py", "return e.exit_code", "return 1", f"{CLI} -k status_2"),
    Mutant("check does not print the note on the connection", "cli.py", "logger.setLevel(logging.INFO)", "logger.setLevel(logging.ERROR)", f"{CLI} -k prints_the_note"),
    Mutant("empty option ignored", "cli.py", "if value is not None and not value.strip():", "if False:", f"{CLI} -k status_2"),
    Mutant("trigger waits for run None", "triggers/wait.py", '        required_text("run_id", self.run_id)\n', "        return None  # type: ignore[return-value]\n", f"{MISSING} -k trigger"),
    Mutant("port 80000 accepted", "emulator/__main__.py", '"--port", type=_PORT,', '"--port", type=int,', f"{EMULATOR} -k invalid_arguments"),
    Mutant("port in use has another exit status", "emulator/__main__.py", "exit_code = 2", "exit_code = 1", f"{EMULATOR} -k 'in_use or exports or by_options'"),
    Mutant("missing folder of the ready file accepted", "emulator/__main__.py", "if not ready_file.parent.is_dir():", "if False:", f"{EMULATOR} -k invalid_arguments"),
    Mutant("script that is not JSON not named", "emulator/__main__.py", "the file is not JSON ({e})", "{e}", f"{EMULATOR} -k invalid_arguments"),
    Mutant("template of another form not reported in a sentence", "emulator/pipelines/definitions.py", "        except (AttributeError, KeyError, TypeError) as e:\n            raise ValueError(f\"{path} does", "        except ZeroDivisionError as e:\n            raise ValueError(f\"{path} does", f"{EMULATOR} -k unreadable"),
]  # fmt: skip
