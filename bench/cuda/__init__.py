"""Measuring on CUDA devices, with nothing but the driver: the same for every library."""
