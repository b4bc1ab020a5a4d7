"""GPUs through NVML, its library replaced by recorded answers."""

# ruff: noqa: N802 (the names are those of NVML)

import types
from pathlib import Path

import pynvml
import pytest

from agent.collectors.gpu import GpuCollector


class Recorded:
    """pynvml as far as it is asked here: two cards, the second without utilisation and power."""

    NVML_TEMPERATURE_GPU = pynvml.NVML_TEMPERATURE_GPU
    NVMLError_NotSupported = pynvml.NVMLError_NotSupported
    NVMLError_LibraryNotFound = pynvml.NVMLError_LibraryNotFound
    NVMLError_NoPermission = pynvml.NVMLError_NoPermission
    NVMLError_Unknown = pynvml.NVMLError_Unknown

    def __init__(self, cards=2, lost=False):
        self.cards, self.lost, self.open = cards, lost, 0

    def nvmlInit(self):
        self.open += 1

    def nvmlShutdown(self):
        self.open -= 1

    def nvmlDeviceGetCount(self):
        return self.cards

    def nvmlDeviceGetHandleByIndex(self, index):
        return index

    def nvmlDeviceGetUtilizationRates(self, card):
        if self.lost:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        if card == 1:
            raise self.NVMLError_NotSupported
        return types.SimpleNamespace(gpu=37, memory=12)

    def nvmlDeviceGetMemoryInfo(self, card):
        return types.SimpleNamespace(total=1000 * (card + 1), used=250)

    def nvmlDeviceGetTemperature(self, card, kind):
        return 50 + card

    def nvmlDeviceGetPowerUsage(self, card):
        if card == 1:
            raise self.NVMLError_NotSupported
        return 71_234

    def nvmlDeviceGetName(self, card):
        return f"Card {card}"

    def nvmlDeviceGetUUID(self, card):
        return f"GPU-{card}".encode()

    def nvmlSystemGetDriverVersion(self):
        return "550.1"


@pytest.fixture
def driver(tmp_path):
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "nvidiactl").touch()
    return str(tmp_path)


def test_figures_of_two_cards_of_which_one_supports_little(driver):
    """What a card does not support is absent for it, and the core metrics are made of those that do."""
    collector = GpuCollector(driver, library=Recorded)
    assert collector.open() is None
    assert collector.collect(0.0, 0.0).metrics == {
        "gpu.count": 2, "gpu.percent": 37, "gpu.memory_percent": 25.0, "gpu.memory_used_bytes": 500,
        "gpu.memory_total_bytes": 3000, "gpu.temperature_celsius": 51, "gpu.power_watts": 71.2,
        "gpu.percent{gpu=0}": 37, "gpu.memory_percent{gpu=0}": 25.0, "gpu.temperature_celsius{gpu=0}": 50,
        "gpu.power_watts{gpu=0}": 71.2, "gpu.memory_percent{gpu=1}": 12.5, "gpu.temperature_celsius{gpu=1}": 51}
    assert [(gpu.index, gpu.name, gpu.uuid, gpu.memory_bytes, gpu.driver) for gpu in collector.gpus] == [
        (0, "Card 0", "GPU-0", 1000, "550.1"), (1, "Card 1", "GPU-1", 2000, "550.1")]


def test_without_a_driver_the_library_is_not_even_loaded(tmp_path):
    """No driver is a normal state: it is said so, and nothing is imported."""
    def load():
        raise AssertionError("loaded")

    assert "no NVIDIA driver" in GpuCollector(str(tmp_path), library=load).open()


def test_a_driver_without_its_library_or_without_a_card(driver):
    """Each thing that may be missing has its own words."""
    class Missing(Recorded):
        def nvmlInit(self):
            raise self.NVMLError_LibraryNotFound

    assert "libnvidia-ml.so.1" in GpuCollector(driver, library=Missing).open()
    empty = Recorded(cards=0)
    assert GpuCollector(driver, library=lambda: empty).open() == "the NVIDIA driver sees no GPU"
    assert empty.open == 0


def test_a_lost_card_is_an_error_and_is_let_go(driver):
    """A card that falls off the bus makes the collector fail, and closing it shuts NVML down."""
    nvml = Recorded(lost=True)
    collector = GpuCollector(driver, library=lambda: nvml)
    collector.open()
    with pytest.raises(pynvml.NVMLError, match=r"(?i)lost"):
        collector.collect(0.0, 0.0)
    collector.close()
    assert nvml.open == 0


def test_the_recorded_library_has_only_names_of_the_real_one():
    """The stand-in cannot answer a question that NVML does not know."""
    asked = [name for name in dir(Recorded) if name.startswith(("nvml", "NVML"))]
    assert len(asked) >= 15
    assert [name for name in asked if not hasattr(pynvml, name)] == []


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="there is a driver here")
def test_the_real_library_without_a_driver_says_so(driver):
    """The real pynvml on a machine without the driver's library is told apart from a broken one."""
    assert "libnvidia-ml.so.1 cannot be loaded" in GpuCollector(driver).open()
