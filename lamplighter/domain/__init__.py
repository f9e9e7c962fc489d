"""Rules and values, without calls to anything outside."""
