"""Finding out if this machine has a usable GPU."""

import ctypes


def cuda_present() -> bool:
    """Return whether an NVIDIA driver answers and has a device.

    PyTorch is not loaded for it: that would take seconds.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return (
        driver.cuInit(0) == 0
        and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
        and count.value > 0
    )
