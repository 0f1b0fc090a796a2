"""How a new run continues an earlier run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from airflow_adf_mi.adf.config.validation import check_flag, check_run_id, check_text, is_given, required_text
from airflow_adf_mi.adf.errors import AdfConfigurationError

_CHECKS: Mapping[str, Callable[[str, object], object]] = {
    "reference_pipeline_run_id": lambda name, value: check_run_id(check_text(name, value), name),
    "is_recovery": check_flag,
    "start_activity_name": check_text,
    "start_from_failure": check_flag,
}
_TRUE, _FALSE = frozenset({"true", "1", "yes"}), frozenset({"false", "0", "no"})


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """The arguments of createRun that refer to an earlier run. If all are None, the run is a plain new run.

    Raises `AdfConfigurationError` for a combination that the service would ignore or misunderstand.
    """

    reference_pipeline_run_id: str | None = None
    """If this argument is set alone, the new run uses the parameters of that run."""
    is_recovery: bool | None = None
    """The new run joins the group of the referenced run and continues it (recorded 2020)."""
    start_activity_name: str | None = None
    start_from_failure: bool | None = None

    def __post_init__(self) -> None:
        for name, check in _CHECKS.items():
            if getattr(self, name) is not None:
                check(name, getattr(self, name))
        if self.is_recovery and not self.reference_pipeline_run_id:
            raise AdfConfigurationError(
                "is_recovery is set without reference_pipeline_run_id. Set it to the id of the run to continue."
            )
        if self.start_activity_name and self.start_from_failure:
            raise AdfConfigurationError(
                f"start_activity_name ({self.start_activity_name!r}) and start_from_failure are both given, and the service "
                "would ignore start_from_failure. Keep one of them."
            )
        for name in ("start_activity_name", "start_from_failure"):
            if getattr(self, name) and not self.is_recovery:
                raise AdfConfigurationError(f"{name} works only with is_recovery=True and reference_pipeline_run_id.")

    @classmethod
    def from_arguments(cls, **arguments: Any) -> Self:
        """From rendered operator arguments. Rendering may turn values into text, and None into "" or "None"."""
        return cls(**{field.name: _cleaned(field.name, arguments.get(field.name)) for field in fields(cls)})

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments for the official client."""
        return {name: value for name, value in vars(self).items() if value is not None}


def _cleaned(name: str, value: Any) -> Any:
    if not is_given(value):
        return None
    if name in ("reference_pipeline_run_id", "start_activity_name"):
        return required_text(name, value)
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text not in _TRUE | _FALSE:
        raise AdfConfigurationError(f"{name} is {value!r}; it must be true or false.")
    return text in _TRUE
