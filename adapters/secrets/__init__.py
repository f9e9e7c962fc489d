"""The `Secrets` port: one file per technology."""
