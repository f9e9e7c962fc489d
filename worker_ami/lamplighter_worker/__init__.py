"""The agent: leases a job, runs it, reports, and goes out."""
