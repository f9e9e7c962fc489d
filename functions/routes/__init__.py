"""The HTTP routes, shared by every door."""
