"""Who runs the state machines."""
