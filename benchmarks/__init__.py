"""Measures the engine on work that other workflow engines were measured on: `python -m benchmarks`."""
