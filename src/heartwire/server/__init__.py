"""The addresses of a hub on every door, configuration, start and stop."""
