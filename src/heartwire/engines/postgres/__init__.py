"""The engine on PostgreSQL: one writing, one reading and one listening connection a node, all else is SQL."""
