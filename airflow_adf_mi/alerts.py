"""Texts for alerts about failed tasks, and a notifier that sends them. Importing this module loads no Azure package.

Airflow calls a callback in one of two processes:

    where           which callbacks                             `exception` in the context   XComs
    --------------  ------------------------------------------  ---------------------------  -----
    worker          of a task that ended in its own process     yes                          yes
    Dag processor   of a Dag; of a task whose worker was lost   no                           yes

So the cause comes from the exception, or from the XCom that the failed task has pushed (`_airflow.kept_failure`). A task whose
worker was lost has pushed no cause. Then the text names the run, if the task had one.

An error quotes text of other systems, and a notifier renders its arguments as templates. If a text reached a template, it
could read Airflow's connections. So no text here contains anything that Jinja acts on.
"""

from __future__ import annotations

import copy
import html
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.sdk.bases.notifier import BaseNotifier
from jinja2 import pass_context

from airflow_adf_mi._airflow.kept_failure import FAILURE_KEY, record_of
from airflow_adf_mi._airflow.task_instance import RUN_ID_KEY
from airflow_adf_mi.adf.errors import AdfConfigurationError, AdfError
from airflow_adf_mi.adf.redaction import cap
from airflow_adf_mi.adf.reporting.failure_record import FailureRecord
from airflow_adf_mi.exceptions import airflow_errors
from airflow_adf_mi.links import AdfPipelineRunLink

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)

LONGEST_SUBJECT = 200
IN_TEMPLATES = "adf_failure"
"""The name that the templates of a wrapped notifier use."""
_EMPTY_FIELDS = {
    "subject": "subject",
    "title": "subject",
    "html_content": "html",
    "text": "text",
    "body": "text",
    "message": "text",
}
"""Which part of the text a wrapped notifier gets, by the names of its fields that are None."""
_JINJA = re.compile(r"\{(?=[{%#])")
_NOT_KNOWN = (
    "The cause is not known here: the task ended outside of its own process, for example because its worker was lost. The log of "
    "the task, or the scheduler's log, may say more."
)


@dataclass(frozen=True, kw_only=True)
class FailureText:
    """
    What an alert says about a failed task. Credentials are masked.

    As text, it is :attr:`text`. The texts are safe in templates: a space separates two characters that would begin an
    expression of Jinja.
    """

    subject: str
    """One line: the task, and the cause in short."""
    text: str
    """The task, the try, the Dag run, the cause, and the links."""
    run_id: str | None = None
    """The id of the ADF run, if it is known."""
    studio_url: str | None = None
    """The page of the ADF run, if it is known."""

    @property
    def html(self) -> str:
        """The text for an e-mail in HTML."""
        return html.escape(self.text).replace("\n", "<br>\n")

    def __str__(self) -> str:
        return self.text


@pass_context
def failure_text(context: Context | Mapping[str, Any]) -> FailureText:
    """
    Describe a failed task, for a callback. Works on workers and in the Dag processor, and never raises.

    The cause comes from ``context["exception"]`` if that is an error of this package. Otherwise, it comes from the XCom
    ``adf_failure``, which the operator and the sensor push when they fail. If neither exists, the text says what is known: Dag,
    task, Dag run, state. It also describes tasks of other packages.

    As a macro of a Dag, it is called without an argument: ``{{ failure_text().subject }}``.

    :param context: the context that Airflow passes to a callback.
    """
    try:
        return _described(context)
    except Exception as e:  # noqa: BLE001  an alert without details is better than none
        log.warning("The failure could not be described. %s: %s", type(e).__name__, e)
        return FailureText(
            subject="An Airflow task failed",
            text="An Airflow task failed, and the callback's context could not be read. See Airflow's UI.",
        )


class AdfNotifier(BaseNotifier):
    """
    Sends :func:`failure_text` with another notifier, such as those for SMTP, Slack and HTTP.

    Use it as a callback of a task or a Dag, such as ``on_failure_callback``. In the other notifier's templated arguments,
    ``adf_failure`` is the :class:`FailureText`: ``{{ adf_failure.subject }}``, ``{{ adf_failure.text }}``. An argument
    ``subject``, ``title``, ``html_content``, ``text``, ``body`` or ``message`` that is None gets the fitting text.

    :param notifier: the other notifier. Or a function that gets the :class:`FailureText` and returns a notifier. Airflow calls
        the function when the alert is sent.
    """

    @airflow_errors()
    def __init__(self, notifier: BaseNotifier | Callable[[FailureText], BaseNotifier]) -> None:
        super().__init__()
        if not callable(notifier) or isinstance(notifier, type):
            raise AdfConfigurationError(
                f"AdfNotifier needs a notifier, or a function that returns one, and got {notifier!r}. Example: "
                "AdfNotifier(SmtpNotifier(to='team@example.org'))."
            )
        self.notifier = notifier

    def notify(self, context: Context) -> None:
        """
        Send the text.

        :param context: the context that Airflow passes to a callback.
        """
        failure = failure_text(context)
        notifier = self._notifier(failure)
        for field in notifier.template_fields:
            if field in _EMPTY_FIELDS and getattr(notifier, field, "") is None:
                setattr(notifier, field, f"{{{{ {IN_TEMPLATES}.{_EMPTY_FIELDS[field]} }}}}")
        notifier({**context, IN_TEMPLATES: failure})

    def _notifier(self, failure: FailureText) -> Any:
        if isinstance(self.notifier, BaseNotifier):
            # Rendering replaces the arguments of a notifier. The next failure needs the templates again.
            return copy.copy(self.notifier)
        return self.notifier(failure)


def _described(context: Any) -> FailureText:
    ti = context.get("ti") or context.get("task_instance")
    task = getattr(ti, "task", None) or context.get("task")
    record = _cause(context.get("exception"), ti, task)
    run_id, studio_url = (None, None) if record is None else (record.run_id, record.studio_url)
    if not studio_url and _is_ours(task):
        studio_url = _xcom(ti, AdfPipelineRunLink().xcom_key)
        run_id = run_id or (_xcom(ti, RUN_ID_KEY) if studio_url else None)
    state = _state(ti)
    name = _name(context, ti, task)
    cause = "" if record is None else f": {record.headline}"
    lines = [f"{_task(context, ti, task)} {state}.", *_reason(context)]
    lines += ["", f"{record.error}: {record.message}" if record else _NOT_KNOWN, ""]
    if studio_url and (record is None or studio_url not in record.message):
        lines.append(f"Run {run_id} in ADF Studio: {studio_url}" if run_id else f"ADF Studio: {studio_url}")
    if log_url := _attribute(ti, "log_url"):
        lines.append(f"Log of the task: {log_url}")
    return FailureText(
        subject=_safe(cap(" ".join(f"{name} {state}{cause}".split()), LONGEST_SUBJECT)),
        text=_safe("\n".join(lines).strip()),
        run_id=run_id,
        studio_url=studio_url,
    )


def _cause(error: object, ti: Any, task: Any) -> FailureRecord | None:
    """The record of the failure: of our own exception, as the task has pushed it, or of another exception."""
    if isinstance(error, AdfError):
        return record_of(error, ti=ti, task=task)
    kept = FailureRecord.from_json(_xcom(ti, FAILURE_KEY)) if _is_ours(task) else None
    if kept is not None and kept.is_of(getattr(ti, "try_number", None)):
        return kept
    return record_of(error, ti=ti, task=task) if isinstance(error, BaseException) else None


def _is_ours(task: Any) -> bool:
    """Whether this is an operator or sensor of this package, also if it is mapped. Others do not have our XComs."""
    links = getattr(task, "operator_extra_links", None) or ()
    return any(isinstance(link, AdfPipelineRunLink) for link in links)


def _xcom(ti: Any, key: str) -> Any:
    """An XCom of the task instance; None if there is none, or if Airflow does not answer."""
    try:
        return ti.xcom_pull(task_ids=ti.task_id, key=key, map_indexes=ti.map_index)
    except Exception as e:  # noqa: BLE001  the alert is sent without it
        log.warning("The XCom %s could not be read for an alert. %s", key, e)
        return None


def _attribute(ti: Any, name: str) -> Any:
    """An attribute of the task instance; None if it does not exist or cannot be computed."""
    try:
        return getattr(ti, name, None)
    except Exception:  # noqa: BLE001  the alert is sent without it
        return None


def _state(ti: Any) -> str:
    """How the task ended. In the Dag processor, the state is often unknown, and only failures are reported there."""
    state = getattr(ti, "state", None)
    word = str(getattr(state, "value", state) or "failed")
    return {"failed": "failed", "up_for_retry": "failed, and will be retried"}.get(word, f"has the state {word}")


def _dag_id(context: Any, ti: Any) -> str:
    return str(getattr(ti, "dag_id", None) or getattr(context.get("dag"), "dag_id", None) or "unknown")


def _name(context: Any, ti: Any, task: Any) -> str:
    task_id = getattr(ti, "task_id", None) or getattr(task, "task_id", None)
    return f"{_dag_id(context, ti)}.{task_id}" if task_id else f"Dag {_dag_id(context, ti)}"


def _task(context: Any, ti: Any, task: Any) -> str:
    """The task, its Dag run and its try, as the beginning of a sentence."""
    task_id = getattr(ti, "task_id", None) or getattr(task, "task_id", None)
    what = f"Task {task_id} of Dag {_dag_id(context, ti)}" if task_id else f"Dag {_dag_id(context, ti)}"
    details = []
    if dag_run_id := getattr(ti, "run_id", None) or context.get("run_id"):
        details.append(f"Dag run {dag_run_id}")
    map_index = getattr(ti, "map_index", None)
    if isinstance(map_index, int) and map_index >= 0:
        details.append(f"map index {map_index}")
    try_number, max_tries = getattr(ti, "try_number", None), getattr(ti, "max_tries", None)
    if isinstance(try_number, int):
        details.append(f"try {try_number}" + (f" of {max_tries + 1}" if isinstance(max_tries, int) else ""))
    return f"{what} ({', '.join(details)})" if details else what


def _reason(context: Any) -> list[str]:
    """Why Airflow called the callback of a Dag, such as `task_failure`."""
    reason = context.get("reason")
    return [f"Airflow's reason: {cap(reason, LONGEST_SUBJECT)}"] if isinstance(reason, str) and reason else []


def _safe(text: str) -> str:
    """`text`, which a template may contain without harm."""
    return _JINJA.sub("{ ", text)
