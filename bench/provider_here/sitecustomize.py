"""For processes of the benchmark: points the Azure provider, which knows the public cloud only, at the emulator.

It is on their PYTHONPATH, so that Python runs it at their start. It gives the official clients another address, and changes
nothing else. If the provider's hook is not imported, it does nothing.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import json
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

MODULE = "airflow.providers.microsoft.azure.hooks.data_factory"
CLIENTS = ("AsyncDataFactoryManagementClient", "DataFactoryManagementClient")


class _Redirecting(importlib.abc.MetaPathFinder):
    def __init__(self, to: dict[str, Any]) -> None:
        self._to = to

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                for name in CLIENTS:
                    setattr(module, name, self._redirected(getattr(module, name)))

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]  # of this one import
        return spec

    def _redirected(self, client: Any) -> Any:
        def make(**arguments: Any) -> Any:
            return client(**arguments, **self._to)

        return make


if "ADF_BENCH_CLIENT" in os.environ:
    sys.meta_path.insert(0, _Redirecting(json.loads(os.environ["ADF_BENCH_CLIENT"])))
