"""Claims, each with the command that shows it."""
