"""The whole product on one Linux server."""
