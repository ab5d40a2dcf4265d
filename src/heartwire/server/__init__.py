"""The hub as a server: who may do what, the addresses, configuration, start and stop."""
