"""Durable streams: streams that are created, appended to by producers, closed and deleted."""

from heartwire.streams import ag_ui, ai_sdk, openai  # each registers its format

__all__ = ["ag_ui", "ai_sdk", "openai"]
