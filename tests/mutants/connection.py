"""Mutants of connection."""

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
    Mutant("403 of a subscription", "adf/config/role.py", "    if isinstance(target, SubscriptionRef):", "    if False:", f"{CLIENT} -k role"),
    Mutant("role that is too wide", "adf/config/role.py", 'ROLE_NAME = "ADF Pipeline Runner"', 'ROLE_NAME = "Data Factory Contributor"', f"{CLIENT} -k role"),
    Mutant("no subscription", "adf/config/settings.py", "if not self.subscription_id:", "if False:", CONNECTION),
    Mutant("two ways of naming", "adf/config/settings.py", "if len(names) > 1:", "if False:", CONNECTION),
    Mutant("unknown identity", "adf/connection_fields.py", "return IdentityKind(chosen)", "return IdentityKind.MANAGED_IDENTITY", CONNECTION),
    Mutant("unknown cloud", "adf/connection_fields.py", "return by_lower_name[name.lower()]", "return by_lower_name.get(name.lower(), PUBLIC_CLOUD)", CONNECTION),
    Mutant("unknown field", "adf/connection_fields.py", "if name not in FIELDS:", "if False:", CONNECTION),
    Mutant("http endpoint", "adf/config/settings.py", 'url.scheme != "https" or', "", CONNECTION),
    Mutant("client secret", "adf/connection_fields.py", "    if password:", "    if False:", CONNECTION),
    Mutant("workload identity by object id", "adf/config/settings.py", "and self.kind is IdentityKind.WORKLOAD_IDENTITY", "and False", CONNECTION),
    Mutant("address that is none", "adf/config/settings.py", "        except ValueError:", "        except ZeroDivisionError:", CONNECTION),
    Mutant("port that is none", "adf/config/settings.py", "            _ = url.port\n", "", CONNECTION),
    Mutant("host, schema, port ignored silently", "adf/connection_fields.py", "if conn_type == CONN_TYPE and ignored:", "if False:", CONNECTION),
    Mutant("schema and port not looked at", "_airflow/connections.py", "        schema=connection.schema,\n        port=connection.port,\n", "", HOOKS),
    Mutant("templated None taken for a name", "adf/config/validation.py", """in ("", "None"))""", """in ("",))""", CONNECTION),
    Mutant("templated number refused as a name", "adf/config/validation.py", "isinstance(value, str | int | float | None)", "isinstance(value, str | None)", CONNECTION),
    Mutant("templated number refused as a pipeline", "_airflow/arguments.py", 'required_text("pipeline_name", given.pipeline_name)', "given.pipeline_name", f"{PROVIDER} -k native"),
    Mutant("missing factory", "adf/config/settings.py", "        if missing:", "        if False:", CONNECTION),
    Mutant("bad pipeline name", "adf/config/validation.py", "not isinstance(name, str) or not _PIPELINE_NAME.fullmatch(name)", "False", START),
    Mutant("parameters no mapping", "adf/config/validation.py", "    if not isinstance(parameters, Mapping):\n        raise", "    if False:\n        raise", START),
    Mutant("parameters that a template will make", "adf/config/validation.py", "    if not isinstance(parameters, Mapping):\n        return", "    if False:\n        return", "tests/integration/test_operators.py"),
    Mutant("parameters not JSON", "adf/config/validation.py", "json.dumps(sent, allow_nan=False, sort_keys=True)", "str(sent)", START),
    Mutant("no positive seconds", "adf/config/validation.py", "or value <= 0", "", PROVIDER),
    Mutant("more seconds than Airflow can add", "adf/config/validation.py", "    if value > YEAR:", "    if False:", f"{PROVIDER} -k 'bad_argument or would_never'"),
    Mutant("template in a parameter refused", "adf/config/validation.py", "value if _is_static_throughout(value) else None", "value", f"{PROVIDER} -k templates_are"),
    Mutant("Dag's parameter refused", "adf/config/validation.py", 'not hasattr(value, "iter_references") and', "", f"{PROVIDER} -k templates_are"),
    Mutant("connection not found", "hooks.py", "raise no_such_connection(conn_id) from e", "raise", HOOKS),
    Mutant("missing permission taken for held", "adf/connection_check.py", "    if isinstance(answer, AdfPermissionError) and answer.code in MISSING_ROLE:\n", "    if False:\n", CLI),
    Mutant("no answer taken for permission", "adf/connection_check.py", "if answer.status in (400, 404):", "if True:", CLI),
    Mutant("probable taken for certain", "adf/connection_check.py", "holds=CheckStatus.PROBABLY, detail=f\"{BELOW}{action}\"", "holds=CheckStatus.YES, detail=f\"{BELOW}{action}\"", CLI),
    Mutant("check looks at a run that is not there", "adf/connection_check.py", "if isinstance(runs, operations.Page) and runs.items else _nowhere()", "if False else _nowhere()", CLI),
    Mutant("check starts what is there", "adf/connection_check.py", "(yield operations.create_run(factory, _nowhere(), None", "(yield operations.create_run(factory, 'Load', None", CLI),
    Mutant("missing certificates end the check", "adf/connection_check.py", "    except AdfError as e:  # such", "    except ZeroDivisionError as e:  # such", CLI),
    Mutant("check goes on without a factory", "adf/connection_check.py", "if isinstance(found, AdfError) and not isinstance(found, AdfPermissionError):", "if False:", CLI),
    Mutant("check always well", "cli.py", "return 0 if well else 1", "return 0", CLI),
    Mutant("test connection well without a permission", "hooks.py", "return all_well(findings), ", "return True, ", HOOKS),
    Mutant("each task reads its connection", "_airflow/connection_cache.py", "    if known is None or", "    if True or", f"{TRIGGERER_MODE} -k once_for_all"),
]  # fmt: skip
