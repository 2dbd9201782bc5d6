"""One scenario per question; each gives a chapter of docs/benchmarks.md."""
