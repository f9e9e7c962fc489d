"""Where repositories are kept."""
