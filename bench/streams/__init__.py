"""What durable streams cost: see `python -m bench.streams --help`."""
