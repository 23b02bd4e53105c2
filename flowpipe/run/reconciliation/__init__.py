"""Data set + store -> what has changed since the store was made."""
