"""What vmwatch costs, measured: `python -m benchmarks.poll_cost` and its neighbours. Results: docs/performance.md."""
