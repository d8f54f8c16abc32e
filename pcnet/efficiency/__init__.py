"""What an answer costs at inference: operations, sequential depth, time and memory, for every architecture alike."""

from pcnet.efficiency.cost import Cost, measure
from pcnet.efficiency.counters import count_flops, measure_depth
from pcnet.efficiency.memory import peak_memory
from pcnet.efficiency.timing import Latency, latency

__all__ = ["Cost", "Latency", "count_flops", "latency", "measure", "measure_depth", "peak_memory"]
