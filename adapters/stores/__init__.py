"""Where the objects are kept."""
