"""Frame pairs and backends -> the cost of optical flow on this machine."""

from flowpipe.diagnose.bench.candidates import PEER, REFERENCES, FlowCandidate, flow_candidates
from flowpipe.diagnose.bench.flow import (
    Figures,
    Meter,
    endpoint_px,
    find_refusals,
    time_passes,
    use_one_core,
)
from flowpipe.diagnose.bench.pairs import Pairs, made_pairs, video_pairs
from flowpipe.diagnose.bench.pairs_per_call import Throughput, measure_throughput
from flowpipe.diagnose.bench.tuning import TuningResult, tune

__all__ = [
    "PEER", "REFERENCES", "Figures", "FlowCandidate", "Meter", "Pairs", "Throughput",
    "TuningResult", "endpoint_px", "find_refusals", "flow_candidates", "made_pairs",
    "measure_throughput", "time_passes", "tune", "use_one_core", "video_pairs",
]  # fmt: skip
