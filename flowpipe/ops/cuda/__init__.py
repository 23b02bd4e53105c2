"""The operations on one NVIDIA GPU: kernels/cuda through CuPy, and which GPUs there are."""
