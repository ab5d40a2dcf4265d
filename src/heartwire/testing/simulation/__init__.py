"""Whole systems in virtual time, from a seed or by hand (docs/testing-simulation.md).

`world` is the front: a `Simulation` of one server and its clients. `server` has the hub over a store that
fails, `client` the client's machine, `network` the wires between them, `loop` the event loop below. `checks`
has the promises, `seeds` and `events` draw what happens in a seed, ``__main__`` runs many seeds.
"""
