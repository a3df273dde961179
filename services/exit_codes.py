"""Exit codes of the `pollen` command, a contract with scripts that call it."""

from typing import Final

#: Everything was done; a model that the gate refused is also this.
DONE: Final = 0
#: Done, but some pictures failed or some exports were refused; they are listed.
SOME_FAILED: Final = 1
#: The command could not run.
COULD_NOT_RUN: Final = 2
