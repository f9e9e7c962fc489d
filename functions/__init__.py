"""The doors: thin entry points that turn calls into use cases."""
