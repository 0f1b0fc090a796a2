"""What a task wants to start, and the request for it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from airflow_adf_mi.adf.api.operations import create_run
from airflow_adf_mi.adf.api.recovery import Recovery
from airflow_adf_mi.adf.config.addresses import FactoryRef
from airflow_adf_mi.adf.config.policies import OnAmbiguousStart, PresentRuns, RetryFromFailure, check_on_ambiguous_start
from airflow_adf_mi.adf.config.validation import check_parameters, check_pipeline_name, check_text
from airflow_adf_mi.adf.errors import AdfConfigurationError
from airflow_adf_mi.adf.starting.declared_parameters import Fitted
from airflow_adf_mi.adf.starting.find_run import RunCriteria
from airflow_adf_mi.adf.starting.intent import Intent, TaskTry, fingerprint
from airflow_adf_mi.adf.starting.start_key import random_key

START_SETTLE_SECONDS = 120.0
"""Default number of seconds to search for the run of a lost start. It is longer than the client's timeouts, because the service
may still be working on the request."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """What to start. The constructor raises `AdfConfigurationError` for arguments that the service would refuse or misread."""

    factory: FactoryRef
    pipeline_name: str
    parameters: Mapping[str, Any] | None = None
    recovery: Recovery = Recovery()
    correlation_parameter: str | None = None
    """The name of a parameter that carries the start key, so that the run of a lost start is identified for certain. The
    pipeline must declare it."""
    settle: float = START_SETTLE_SECONDS
    """Seconds to search for the run of a lost start."""
    on_ambiguous: OnAmbiguousStart = "fail"
    """What to do if the run of a lost start can be neither found nor ruled out."""
    is_sent_again: bool = False
    """The author chose another value of `on_ambiguous` than "fail", and this try has used it up (`sent_again`)."""
    start_key: str | None = None
    """The start key; None for a random one."""
    service_uses_key: bool = False
    """Whether it is known that the service uses our keys as run ids in this factory."""
    first_refused_at: float | None = None
    """When a full queue refused a start of this try first, in epoch seconds; None if it did not."""
    retry_from_failure: RetryFromFailure = "never"
    """When a failed run of an earlier try is continued (`rerun`)."""
    present_runs: PresentRuns = PresentRuns()
    """What to do about runs of the pipeline that are already there."""
    check_parameters: bool = False
    """Whether the parameters are checked against the published pipeline."""
    fitted: Fitted | None = None
    """The parameters as they are sent, after the check. Everything else uses `parameters`: what the author wrote."""

    def __post_init__(self) -> None:
        check_pipeline_name(self.pipeline_name)
        # Dates and the like are kept as JSON. The fingerprint must not depend on the published pipeline, because a retry may
        # find another definition, or none. So a value is not kept in the type that the pipeline declares.
        object.__setattr__(self, "parameters", check_parameters(self.parameters))
        if not isinstance(self.recovery, Recovery):
            raise AdfConfigurationError(f"recovery is of type {type(self.recovery).__name__}; it must be a Recovery.")
        check_on_ambiguous_start(self.on_ambiguous, self.correlation_parameter)
        refers = self.recovery.reference_pipeline_run_id is not None
        if refers and (self.parameters or self.correlation_parameter):
            given = "parameters" if self.parameters else "correlation_parameter"
            raise AdfConfigurationError(
                f"{given} and reference_pipeline_run_id are both set, but a run that refers to an earlier run takes its "
                "parameters from that run. Remove one of them."
            )
        if refers and self.present_runs.compares:
            raise AdfConfigurationError(
                "reference_pipeline_run_id is set, and on_live_run or on_succeeded_run compares parameters. A run that refers to "
                "an earlier run has the parameters of that run. Remove one of them."
            )
        if self.correlation_parameter is not None:
            check_text("correlation_parameter", self.correlation_parameter)
            # Data Factory ignores the case of names.
            if self.correlation_parameter.lower() in {name.lower() for name in self.parameters or {}}:
                raise AdfConfigurationError(
                    f"correlation_parameter {self.correlation_parameter!r} is also in parameters. Its value is the start "
                    "key, so remove it from parameters."
                )

    def sent_again(self) -> Self:
        """This start, when the try sends it again. A try does so without proof at most once."""
        return replace(self, on_ambiguous="fail", is_sent_again=self.is_sent_again or self.on_ambiguous != "fail")

    def intent(self, task_try: TaskTry = TaskTry()) -> Intent:
        """A new intent for this start.

        If no start key is given, the key is random. The reason: if a Dag run is deleted and created again, its keys must not
        match the runs of the deleted Dag run.
        """
        return Intent(
            start_key=self.start_key or random_key(),
            factory=self.factory,
            pipeline_name=self.pipeline_name,
            fingerprint=fingerprint(self.factory, self.pipeline_name, self.parameters, self.recovery),
            task_try=task_try,
            service_uses_key=self.service_uses_key,
            first_refused_at=self.first_refused_at,
        )

    def criteria(self, intent: Intent | None = None) -> RunCriteria:
        """What distinguishes the run of a start, which may be a rerun."""
        if intent is not None and intent.rerun_of is not None:
            # The parameters, and so the correlation parameter, are those of the run that is continued.
            return RunCriteria(
                factory=self.factory,
                pipeline_name=self.pipeline_name,
                rerun_group_id=intent.run_group_id or intent.rerun_of,
            )
        return RunCriteria(
            factory=self.factory,
            pipeline_name=self.pipeline_name,
            parameters=self.parameters or {},
            recovery=self.recovery,
            correlation_parameter=self.correlation_parameter,
        )

    def call(self, intent: Intent) -> Any:
        """The request of createRun."""
        key = intent.start_key
        if intent.rerun_of is not None:
            again = Recovery(reference_pipeline_run_id=intent.rerun_of, is_recovery=True, start_from_failure=True)
            return create_run(self.factory, self.pipeline_name, None, request_id=key, recovery=again)
        sent = self.fitted or Fitted(values=self.parameters or {}, correlation_parameter=self.correlation_parameter)
        own = {sent.correlation_parameter: key} if sent.correlation_parameter is not None else {}
        return create_run(
            self.factory,
            self.pipeline_name,
            {**sent.values, **own},
            request_id=key,
            recovery=self.recovery,
        )
