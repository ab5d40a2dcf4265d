"""Where streams live: one contract, one module per store. A driver is imported when its engine is chosen."""
