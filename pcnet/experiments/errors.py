"""What can be wrong with a run, told in one line."""


class ConfigError(ValueError):
    """A run that cannot begin: its configuration or its folder; the message is one line."""


class RunFailed(RuntimeError):
    """Some jobs of a run failed; the message names them and why."""
