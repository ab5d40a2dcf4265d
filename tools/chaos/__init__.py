"""`make chaos`: clients of nodes on one store, while nodes and the store are killed."""
