"""Frame pairs and backends -> the cost of optical flow on this machine."""

from flowpipe.diagnose.bench.candidates import PEER, REFERENCES, FlowCandidate, flow_candidates
from flowpipe.diagnose.bench.flow import (
    FlowFigures,
    Meter,
    endpoint_px,
    find_refusals,
    time_passes,
    use_one_core,
)
from flowpipe.diagnose.bench.pairs import Pairs, render_pairs, video_pairs
from flowpipe.diagnose.bench.pairs_per_call import Throughput, measure_throughput
from flowpipe.diagnose.bench.tuning import tune

__all__ = [
    "PEER", "REFERENCES", "FlowCandidate", "FlowFigures", "Meter", "Pairs", "Throughput",
    "endpoint_px", "find_refusals", "flow_candidates", "measure_throughput",
    "render_pairs", "time_passes", "tune", "use_one_core", "video_pairs",
]  # fmt: skip
