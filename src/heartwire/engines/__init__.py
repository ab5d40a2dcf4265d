"""Where streams live. One contract, one module per store; a driver is imported only when its engine is
chosen."""
