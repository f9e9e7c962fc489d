"""The whole product as Lambda functions: one module per function, each with a `handler`."""
