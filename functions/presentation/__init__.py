"""How domain values look in answers: one module per kind of thing."""
