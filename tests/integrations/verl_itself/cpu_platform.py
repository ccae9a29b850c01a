"""A platform and an engine by which verl's own workers train on a CPU, which verl 0.9.1 has none for."""

from types import SimpleNamespace
from typing import Any

import torch
import verl  # noqa: F401 - what loads the plugin
from verl.plugin.platform.platform_cuda import PlatformCUDA
from verl.plugin.platform.platform_manager import set_platform

NOTHING = ("memory_reserved", "memory_allocated", "max_memory_allocated", "max_memory_reserved")


class CPU(PlatformCUDA):
    """What verl asks of a device, answered for a CPU."""

    device_name = vendor_name = "cpu"
    device_module: Any = SimpleNamespace(
        **{name: getattr(torch.cpu, name) for name in dir(torch.cpu) if name[0] != "_"},
        **dict.fromkeys(NOTHING, lambda: 0),
        mem_get_info=lambda: (0, 0),
        empty_cache=lambda: None,
        get_device_name=lambda: "CPU",
    )

    def is_available(self) -> bool:
        return True

    def current_device(self) -> Any:
        return "cpu"

    def device_count(self) -> int:
        return 1

    def set_device(self, device_index: int) -> None:
        """There is one."""

    def synchronize(self, device_index: int | None = None) -> None:
        """Nothing runs beside."""

    def manual_seed_all(self, seed: int) -> None:
        torch.manual_seed(seed)

    def empty_cache(self) -> None:
        """There is none."""


set_platform(CPU())  # before the modules are imported that ask for it as they are loaded

from verl.workers.engine import EngineRegistry  # noqa: E402
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead  # noqa: E402

EngineRegistry.register(model_type="language_model", backend=["fsdp2"], device=["cpu"])(FSDPEngineWithLMHead)
