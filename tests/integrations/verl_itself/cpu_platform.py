"""A platform by which verl's own workers train on a CPU, which verl 0.9.1 has none for."""

from types import SimpleNamespace
from typing import Any

import torch
from verl.plugin.platform.platform_cuda import PlatformCUDA
from verl.plugin.platform.platform_manager import PlatformRegistry

NOTHING = ("memory_reserved", "memory_allocated", "max_memory_allocated", "max_memory_reserved")


@PlatformRegistry.register(platform="cpu")
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
