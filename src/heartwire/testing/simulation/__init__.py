"""Whole systems in virtual time, from a seed or by hand (docs/testing-simulation.md).

`world` is the front: a `Simulation` of one server and its clients. `server` has its `nodes`, each with a hub
over an engine: `engine` where there is one, over a store that fails; `shared_engine` where several share a
`store`, by `links` that fail. `client` is the client's machine, `backend` the application's, `network` the
wires to the server, `loop` the event loop below. `checks`, `feeds` and `members` have the promises, by the
`truth` of what was kept. `seeds`, `events` and `node_events` draw what happens, ``__main__`` runs many seeds.
"""
