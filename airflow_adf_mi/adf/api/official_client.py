"""The two generations of the official client, azure-mgmt-datafactory. The only module that knows them apart.

Both send the same requests. Version 9 makes strict models of all answers on the event loop, and refuses an answer with one odd
member. Version 10 can give the answer itself as a stream, and its models are the service's JSON. This package reads the JSON, so
it takes the answers of version 9 before they become models.
"""

from __future__ import annotations

import copy
from functools import cache
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any


@cache
def has_streams() -> bool:
    """Whether an operation can give its answer as a stream. Call it after the official client was imported."""
    try:
        return find_spec("azure.mgmt.datafactory._utils.model_base") is not None
    except ModuleNotFoundError:  # version 9.2 has not even the package
        return False


def raw_operations(group: Any) -> Any:
    """An operation group of the official client whose operations make no models.

    :param group: the group. It stays as it is, because users of `get_conn` expect models.
    """
    if has_streams():
        return group
    raw = copy.copy(group)
    raw._deserialize = _NoModels(group._deserialize)  # noqa: SLF001  version 9 has no public way to the answer
    return raw


class _NoModels:
    """A deserializer of version 9 that leaves successful answers, and the items of lists, as they are. Errors become models."""

    def __init__(self, deserializer: Any) -> None:
        self._deserializer = deserializer

    def __call__(self, model: str, response: Any, *_content_type: Any) -> Any:
        if not model.endswith(("ListResponse", "ListResult")):
            return response
        body = response.http_response.json()
        # What the official client needs to follow the pages.
        return SimpleNamespace(value=body.get("value", []), next_link=body.get("nextLink"))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._deserializer, name)
