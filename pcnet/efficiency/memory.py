"""How much memory one call needs at its peak."""

import ctypes
import gc
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from pcnet.efficiency.timing import synchronize

PROC = Path("/proc/self")


def peak_memory(call: Callable[[], object], device: torch.device | str = "cpu") -> float:
    """Bytes that `call` needs at its peak.

    On a CUDA device the allocator's peak: everything alive on the device, the weights included. On a CPU the growth of
    the process's resident memory from before the call to its peak, so without the weights. Call it once before: threads,
    code and caches that come with the first call are not what one answer needs.

    Limits on a CPU: other threads' memory counts as well, and growth is known to about 0.1 MB, so small calls may read 0.
    Where Linux's /proc can't reset the peak, only growth beyond the process's highest peak so far is seen.

    Args:
        call: runs what is measured.
        device: where it runs.

    Returns:
        Bytes; NaN where the platform doesn't tell.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return _allocator_peak(call, device)
    return _resident_growth(call) if device.type == "cpu" else float("nan")


def _allocator_peak(call: Callable[[], object], device: torch.device) -> float:
    gc.collect()
    synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    call()
    synchronize(device)
    return float(torch.cuda.max_memory_allocated(device))


def _resident_growth(call: Callable[[], object]) -> float:
    _release_free_memory()
    resets = _reset_peak()
    before = _status_bytes("VmRSS") if resets else _highest_peak()
    call()
    after = _status_bytes("VmHWM") if resets else _highest_peak()
    return max(after - before, 0.0)


def _release_free_memory() -> None:
    """Give freed memory back to the system, or the call would be served from it and seem to need none."""
    gc.collect()
    if sys.platform == "linux":
        try:
            ctypes.CDLL(None).malloc_trim(0)
        except AttributeError:  # a C library other than glibc
            return


def _reset_peak() -> bool:
    """Let the resident peak begin at what is resident now; False where that can't be done."""
    try:
        (PROC / "clear_refs").write_text("5")
        return _status_bytes("VmHWM") > 0
    except (OSError, LookupError):
        return False


def _status_bytes(entry: str) -> float:
    """An entry of /proc/self/status.

    Raises:
        LookupError: there is no such entry.
    """
    for line in (PROC / "status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == entry:
            return 1024.0 * int(value.split()[0])  # proc(5) says kB and means KiB
    raise LookupError(entry)


def _highest_peak() -> float:
    """The process's highest resident memory ever; NaN where the system has no such number."""
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    unit = 1 if sys.platform == "darwin" else 1024
    return float(unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
