"""The check that a run has the device it is meant for: a GPU, or the CPU if its settings say so."""

from typing import Final, Literal

from prefect.context import FlowRunContext

from pollen.detection.gpu import cuda_present
from pollen.errors import PollenError

Device = Literal["auto", "cpu", "cuda"]

#: The work pool whose runs are not expected to find a GPU.
CPU_POOL: Final = "cpu"
_WAYS_OUT: Final = (
    "choose a node with an NVIDIA GPU and its driver (on Kubernetes the pool's gpu_count, gpu_resource and "
    "node_selector decide), or set device: cpu in the run's settings, which takes many times as long"
)


def check_device(wanted: Device) -> None:
    """Check that the GPU that a run is meant for is there: the CPU is never used in its place silently.

    `auto` means any device on a laptop and in runs on pool `cpu`; on every other work pool it means
    a GPU.

    Raises:
        PollenError: If there is no usable GPU; the message says what to do.
    """
    if wanted == "cpu" or cuda_present():
        return
    pool = work_pool()
    if pool not in (None, CPU_POOL):
        raise PollenError(
            f"this run is on work pool '{pool}', and finds no usable NVIDIA GPU there: {_WAYS_OUT}"
        )
    if wanted == "cuda":
        raise PollenError(f"no usable NVIDIA GPU on this machine: {_WAYS_OUT}")


def work_pool() -> str | None:
    """Return the work pool of the present flow run; None if the flow was called directly."""
    context = FlowRunContext.get()
    return context.flow_run.work_pool_name if context and context.flow_run else None
