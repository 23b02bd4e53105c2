"""Store -> Temporal Segment Networks (Wang et al., ECCV 2016, PAMI 2018). Needs torch."""
