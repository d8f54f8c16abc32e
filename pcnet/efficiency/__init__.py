"""What an answer costs at inference: operations, sequential depth, time and memory, for every architecture alike.

`measure` makes the bill of a `Predictor` on typical sequences of a process, one `Cost` per batch size. Operations and depth
come from the model's own formulas (`flops`, `sequential_depth`) at the mean number of inference iterations; `count_flops` and
`measure_depth` check those formulas from outside, by what torch executes. `latency` times single calls, `peak_memory` takes
the memory of one. A `Bench` says on which device, with how many threads and for how long.

    rows = measure("pc", TemporalPC(3), mess3(), length=10, batch_sizes=[1, 64], bench=Bench(threads=1))
"""

from pcnet.efficiency.cost import Cost, measure
from pcnet.efficiency.counters import count_flops, measure_depth
from pcnet.efficiency.memory import peak_memory
from pcnet.efficiency.timing import Bench, Latency, latency

__all__ = ["Bench", "Cost", "Latency", "count_flops", "latency", "measure", "measure_depth", "peak_memory"]
