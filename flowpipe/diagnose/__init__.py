"""This machine -> findings, checks and figures: what it can use, compute rightly, and how fast."""
