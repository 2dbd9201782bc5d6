"""Measures keylane beside its peers on a real broker: see docs/benchmarks.md."""
