"""The plain dialect: a channel is a URL, a message is the body. `docs/plain.md` describes it for users."""
