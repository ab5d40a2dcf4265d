"""Fuzzers of a running server: `make fuzz`.

A seed decides a *batch*: about a dozen connections, each with what it sends, piece by piece, and how it
ends. `corpus` has what is valid, `mutation` spoils it, `scripts` makes connections of it; `play` sends them,
`answers` judges what comes back, `witness` is the well-behaved client in between, `run` watches the server.
"""
