"""GPUs of NVIDIA, asked through NVML. What a card does not support is absent."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.collectors import Reading
from agent.sampling import percent
from shared.names import metric_name
from shared.wire import Gpu

DRIVER_FILES = ("dev/nvidiactl", "dev/dxg")

_NO_DRIVER = "no NVIDIA driver (install it where the machine has such a GPU; in a container, hand the device through)"


class GpuCollector:
    """Collector `gpu`. `library` loads pynvml; it is called only where there is a driver."""

    name = "gpu"
    interval = 5.0
    may_block = True

    def __init__(self, root: str = "/", library: Callable[[], Any] | None = None) -> None:
        self._root = root
        self._load = library or _import_pynvml
        self._nvml: Any = None
        self._handles: list[Any] = []
        self.gpus: list[Gpu] = []

    def open(self) -> str | None:
        if not any(Path(self._root, file).exists() for file in DRIVER_FILES):
            return _NO_DRIVER
        try:
            nvml = self._load()
        except ModuleNotFoundError:
            return "the Python package nvidia-ml-py is not installed; mend with: pip install 'drumbeat[agent]'"
        try:
            nvml.nvmlInit()
        except nvml.NVMLError_LibraryNotFound:
            return "the NVIDIA driver's libnvidia-ml.so.1 cannot be loaded; install the driver's NVML package"
        self._nvml = nvml
        self._handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        if not self._handles:
            self.close()
            return "the NVIDIA driver sees no GPU"
        self.gpus = [self._described(index, handle) for index, handle in enumerate(self._handles)]
        return None

    def collect(self, now: float, monotonic: float) -> Reading:  # noqa: ARG002 (one signature for all collectors)
        cards = [self._read_card(handle) for handle in self._handles]
        return Reading(totals(cards) | instances(cards))

    def close(self) -> None:
        nvml, self._nvml, self._handles = self._nvml, None, []
        if nvml is not None:
            nvml.nvmlShutdown()

    def _asked(self, question: Callable[..., Any], *arguments: Any) -> Any:
        """NVML's answer; None where this card does not support the question, or knows no answer now."""
        try:
            return question(*arguments)
        except (self._nvml.NVMLError_NotSupported, self._nvml.NVMLError_NoPermission, self._nvml.NVMLError_Unknown):
            return None

    def _read_card(self, handle: Any) -> dict[str, float]:
        nvml = self._nvml
        use = self._asked(nvml.nvmlDeviceGetUtilizationRates, handle)
        memory = self._asked(nvml.nvmlDeviceGetMemoryInfo, handle)
        celsius = self._asked(nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU)
        milliwatts = self._asked(nvml.nvmlDeviceGetPowerUsage, handle)
        card: dict[str, float] = {}
        if use is not None:
            card["percent"] = min(100, use.gpu)
        if memory is not None and memory.total > 0:
            card |= {"memory_percent": percent(memory.used, memory.total),
                     "memory_used_bytes": memory.used, "memory_total_bytes": memory.total}
        if celsius is not None:
            card["temperature_celsius"] = celsius
        if milliwatts is not None:
            card["power_watts"] = round(milliwatts / 1000, 1)
        return card

    def _described(self, index: int, handle: Any) -> Gpu:
        nvml = self._nvml
        memory = self._asked(nvml.nvmlDeviceGetMemoryInfo, handle)
        words = (self._asked(nvml.nvmlDeviceGetName, handle), self._asked(nvml.nvmlDeviceGetUUID, handle),
                 self._asked(nvml.nvmlSystemGetDriverVersion))
        name, uuid, driver = (word.decode() if isinstance(word, bytes) else word or "" for word in words)
        return Gpu(index=index, name=name, uuid=uuid, driver=driver, memory_bytes=0 if memory is None else memory.total)


def totals(cards: list[dict[str, float]]) -> dict[str, float]:
    """The core metrics: busiest, fullest and hottest card; sums of memory and power."""
    found: dict[str, float] = {"gpu.count": len(cards)}
    for name, together in (("percent", max), ("memory_percent", max), ("memory_used_bytes", sum),
                           ("memory_total_bytes", sum), ("temperature_celsius", max), ("power_watts", sum)):
        values = [card[name] for card in cards if name in card]
        if values:
            found[f"gpu.{name}"] = round(together(values), 1)
    return found


def instances(cards: list[dict[str, float]]) -> dict[str, float]:
    """The metrics of each card, by its index."""
    names = ("percent", "memory_percent", "temperature_celsius", "power_watts")
    return {metric_name(f"gpu.{name}", gpu=str(index)): card[name]
            for index, card in enumerate(cards) for name in names if name in card}


def _import_pynvml() -> Any:
    import pynvml

    return pynvml
