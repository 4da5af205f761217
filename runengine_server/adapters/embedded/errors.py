"""The one error of embedded servers: something the person who started them can put right."""


class EmbeddedError(RuntimeError):
    """An embedded server cannot be started; the message says what to change."""
