"""What every adapter to an AWS service shares: signed calls without an SDK, patience, and the words for failures."""
