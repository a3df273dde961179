"""Never the CPU in place of a missing GPU, unless somebody said so. Real runs: tests/flows/test_shards.py."""

import pytest

from pollen.errors import PollenError
from tasks.cluster import devices
from tasks.cluster.devices import Device, check_device


@pytest.mark.parametrize(
    ("wanted", "pool", "there", "refused"),
    [
        ("auto", None, False, False),  # a laptop
        ("auto", "cpu", False, False),
        ("auto", "gpu", False, True),
        ("auto", "a100-mig", False, True),
        ("auto", "gpu", True, False),
        ("cpu", "gpu", False, False),
        ("cuda", None, False, True),
        ("cuda", "cpu", False, True),
        ("cuda", "gpu", True, False),
    ],
)
def test_where_a_gpu_is_missed(
    wanted: Device, pool: str | None, there: bool, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "cuda_present", lambda: there)
    monkeypatch.setattr(devices, "work_pool", lambda: pool)
    if not refused:
        check_device(wanted)
        return
    place = "on work pool" if pool and pool != "cpu" else "on this machine"
    with pytest.raises(PollenError, match=rf"(?s){place}.*set device: cpu"):
        check_device(wanted)


def test_a_call_without_a_flow_run_came_from_no_pool() -> None:
    assert devices.work_pool() is None
