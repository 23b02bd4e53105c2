"""Store + networks -> features and scores along its videos."""
