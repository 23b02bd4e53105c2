"""This machine -> what it can use, whether it computes correctly, and how fast."""
