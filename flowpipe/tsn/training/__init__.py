"""Store + recipe -> a trained network in a run folder."""
