"""Helpers of `benchmarks/dht.py`: what is measured, how, and how it is shown."""
