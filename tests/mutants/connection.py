"""Mutants of connections, arguments and the check."""

from __future__ import annotations

from tests.mutants import Mutant

CLIENT = "tests/integration/adf/api/test_client.py"
HOOKS = "tests/integration/test_hooks.py"
CONNECTION = "tests/unit/adf/test_connection_fields.py"
START = "tests/unit/adf/starting/test_create_run.py"
PROVIDER = "tests/contract/test_provider.py"
CLI = "tests/integration/test_cli.py"
TRIGGERER_MODE = "tests/integration/triggers/test_start_and_wait.py"

MUTANTS = [
    Mutant("403 of a subscription not explained", "adf/config/role.py", "    if isinstance(target, SubscriptionRef):", "    if False:", f"{CLIENT} -k role"),
    Mutant("role that is too wide", "adf/config/role.py", 'ROLE_NAME = "ADF Pipeline Runner"', 'ROLE_NAME = "Data Factory Contributor"', f"{CLIENT} -k role"),
    Mutant("connection without a subscription accepted", "adf/config/settings.py", "if not self.subscription_id:", "if False:", CONNECTION),
    Mutant("two names of an identity accepted", "adf/config/settings.py", "if len(names) > 1:", "if False:", CONNECTION),
    Mutant("unknown kind of identity accepted", "adf/connection_fields.py", "return IdentityKind(chosen)", "return IdentityKind.MANAGED_IDENTITY", CONNECTION),
    Mutant("unknown cloud accepted", "adf/connection_fields.py", "return by_lower_name[name.lower()]", "return by_lower_name.get(name.lower(), PUBLIC_CLOUD)", CONNECTION),
    Mutant("unknown field accepted", "adf/connection_fields.py", "if name not in FIELDS:", "if False:", CONNECTION),
    Mutant("http endpoint accepted", "adf/config/settings.py", 'url.scheme != "https" or', "", CONNECTION),
    Mutant("client secret accepted", "adf/connection_fields.py", "    if password:", "    if False:", CONNECTION),
    Mutant("workload identity by object id accepted", "adf/config/settings.py", "and self.kind is IdentityKind.WORKLOAD_IDENTITY", "and False", CONNECTION),
    Mutant("invalid address accepted", "adf/config/settings.py", "        except ValueError:", "        except ZeroDivisionError:", CONNECTION),
    Mutant("invalid port accepted", "adf/config/settings.py", "            _ = url.port\n", "", CONNECTION),
    Mutant("host, schema, port ignored silently", "adf/connection_fields.py", "if conn_type == CONN_TYPE and ignored:", "if False:", CONNECTION),
    Mutant("schema and port not checked", "_airflow/connections.py", "        schema=connection.schema,\n        port=connection.port,\n", "", HOOKS),
    Mutant("templated None treated as a name", "adf/config/validation.py", """in ("", "None"))""", """in ("",))""", CONNECTION),
    Mutant("templated number refused as a name", "adf/config/validation.py", "isinstance(value, str | int | float | None)", "isinstance(value, str | None)", CONNECTION),
    Mutant("templated number refused as a pipeline", "_airflow/arguments.py", 'required_text("pipeline_name", given.pipeline_name)', "given.pipeline_name", f"{PROVIDER} -k native"),
    Mutant("missing factory accepted", "adf/config/settings.py", "        if missing:", "        if False:", CONNECTION),
    Mutant("invalid pipeline name accepted", "adf/config/validation.py", "not isinstance(name, str) or not _PIPELINE_NAME.fullmatch(name)", "False", START),
    Mutant("parameters that are not a mapping accepted", "adf/config/validation.py", "    if not isinstance(parameters, Mapping):\n        raise", "    if False:\n        raise", START),
    Mutant("parameters that are a template refused", "adf/config/validation.py", "    if not isinstance(parameters, Mapping):\n        return", "    if False:\n        return", "tests/integration/test_operators.py"),
    Mutant("parameters that are not JSON accepted", "adf/config/validation.py", "json.dumps(sent, allow_nan=False, sort_keys=True)", "str(sent)", START),
    Mutant("seconds that are not positive accepted", "adf/config/validation.py", "or value <= 0", "", PROVIDER),
    Mutant("more seconds than Airflow can add accepted", "adf/config/validation.py", "    if value > YEAR:", "    if False:", f"{PROVIDER} -k 'bad_argument or not_usable'"),
    Mutant("template in a parameter refused", "adf/config/validation.py", "value if _is_static_throughout(value) else None", "value", f"{PROVIDER} -k templates_are"),
    Mutant("Dag's parameter refused", "adf/config/validation.py", 'not hasattr(value, "iter_references") and', "", f"{PROVIDER} -k templates_are"),
    Mutant("connection that does not exist not explained", "hooks.py", "with reported_if_missing(conn_id):", "if True:", HOOKS),
    Mutant("missing permission reported as granted", "adf/connection_check.py", "    if isinstance(answer, AdfPermissionError) and answer.code in MISSING_ROLE:\n", "    if False:\n", CLI),
    Mutant("no answer reported as granted", "adf/connection_check.py", "if answer.status in (400, 404):", "if True:", CLI),
    Mutant("probable permission reported as certain", "adf/connection_check.py", "holds=CheckStatus.PROBABLY, detail=f\"{BELOW}{action}\"", "holds=CheckStatus.YES, detail=f\"{BELOW}{action}\"", CLI),
    Mutant("check reads an existing run", "adf/connection_check.py", "if isinstance(runs, operations.Page) and runs.items else _nowhere()", "if False else _nowhere()", CLI),
    Mutant("check counts ended runs", "adf/connection_check.py", "filters = of_pipeline, having(\"Status\", *sorted(RunStatus.UNFINISHED))", "filters = (of_pipeline,)", CLI),
    Mutant("check counts runs of other pipelines", "adf/connection_check.py", "filters = of_pipeline, having(\"Status\", *sorted(RunStatus.UNFINISHED))", "filters = (having(\"Status\", *sorted(RunStatus.UNFINISHED)),)", CLI),
    Mutant("check starts an existing pipeline", "adf/connection_check.py", "(yield operations.create_run(factory, _nowhere(), None", "(yield operations.create_run(factory, 'Load', None", CLI),
    Mutant("missing certificates end the check", "adf/connection_check.py", "    except AdfError as e:  # such", "    except ZeroDivisionError as e:  # such", CLI),
    Mutant("check continues although the factory was not found", "adf/connection_check.py", "if isinstance(found, AdfError) and not isinstance(found, AdfPermissionError):", "if False:", CLI),
    Mutant("failed check reported as passed", "cli.py", "return 0 if well else 1", "return 0", CLI),
    Mutant("test_connection passes without a permission", "hooks.py", "return all_well(findings), ", "return True, ", HOOKS),
    Mutant("connection read again for each task", "_airflow/connection_cache.py", "    if known is None or", "    if True or", f"{TRIGGERER_MODE} -k once_for_all"),
]  # fmt: skip
