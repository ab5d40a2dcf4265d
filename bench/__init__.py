"""Heartwire measured against its peers: ``python -m bench --help``; README.md says what and how."""
