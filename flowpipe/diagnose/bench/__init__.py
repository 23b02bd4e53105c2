"""Frame pairs and backends -> the cost of optical flow on this machine."""

from flowpipe.diagnose.bench.candidates import PEER, REFERENCES, Row, flow_rows
from flowpipe.diagnose.bench.flow import Figures, Meter, endpoint_px, one_core, passes, refusals
from flowpipe.diagnose.bench.pairs import Pairs, made_pairs, video_pairs
from flowpipe.diagnose.bench.pairs_per_call import Batch, sweep
from flowpipe.diagnose.bench.tuning import Tuned, tune

__all__ = [
    "PEER", "REFERENCES", "Batch", "Figures", "Meter", "Pairs", "Row", "Tuned", "endpoint_px",
    "flow_rows", "made_pairs", "one_core", "passes", "refusals", "sweep", "tune", "video_pairs",
]  # fmt: skip
