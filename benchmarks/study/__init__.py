"""What pre-training buys, on real data: `python -m benchmarks.study nw-ucla --data ucla.zarr`."""
