"""The ideas of Lamplighter: domain, use cases, ports and the worker contract. Standard library only."""
