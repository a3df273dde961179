"""The base of every error that reaches people."""


class PollenError(Exception):
    """An error whose message says what happened and what to do.

    Attributes:
        heals: Whether waiting may help; a stage that raises such an error is retried.
    """

    def __init__(self, message: str, *, heals: bool = False) -> None:
        super().__init__(message)
        self.heals = heals


def heals(error: BaseException) -> bool:
    """Return whether the call that raised `error` may succeed if it is repeated."""
    return isinstance(error, PollenError) and error.heals
