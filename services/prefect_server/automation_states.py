"""Names of the states that our automations give to runs (`deployments/automations`)."""

from typing import Final

#: Name of the state of a run that crashed and is about to start again (`crashed.yaml`).
RESTARTING: Final = "Restarting"
#: First word of the states of a run that is ended because it waited too long to start (`pending.yaml`).
ENDING: Final = "Ending"
