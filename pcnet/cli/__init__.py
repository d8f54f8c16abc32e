"""The command `pcnet` and its verbs."""
