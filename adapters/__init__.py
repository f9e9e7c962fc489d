"""The world: every file here is the only one that knows its technology."""
