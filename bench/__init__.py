"""Heartwire measured against its peers: ``python -m bench --help``; README.md has the method."""
