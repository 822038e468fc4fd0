"""What can go wrong, sorted by what the runtime should do about it."""


class MicrooptError(Exception):
    """Base of every error that microopt raises on purpose."""


class TemporaryError(MicrooptError):
    """Say that the same message may succeed later; it is delivered again after `delay_s`."""

    def __init__(self, message: str, *, delay_s: float = 1.0) -> None:
        super().__init__(message)
        self.delay_s = delay_s


class PermanentError(MicrooptError):
    """Say that this message can never succeed; it goes to the dead-letter subject with the reason."""


class InvalidMessageError(PermanentError):
    """A payload that is not the message its subject promises; the text names the field."""


class ConfigError(MicrooptError):
    """A setting that cannot be used; the text names the key and the remedy."""


class ModelError(MicrooptError):
    """A slice model file that cannot be used: cut off, of another format, or of other resources."""
