"""Dask workers, on this machine or on others -> a pool that runs functions."""
