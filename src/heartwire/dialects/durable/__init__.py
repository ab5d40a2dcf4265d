"""The Durable Streams protocol: what its headers, parameters and bodies mean."""
