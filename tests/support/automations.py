"""The automations of the files, for a server that has all that they refer to, or nothing."""

from pathlib import Path
from uuid import UUID

from prefect.events.schemas.automations import AutomationCore

from services.setup.automation_files import read_declared
from services.setup.references import LookUp, NotThereError, Reference
from services.site import Site


def nothing_there(reference: Reference) -> UUID:
    """The ids on a server that has nothing yet.

    Raises:
        NotThereError: Always.
    """
    raise NotThereError(f"there is no {reference.kind} {reference.name}")


def declared_automations(
    site: Site, look_up: LookUp = nothing_there, folder: Path | None = None
) -> list[AutomationCore]:
    """The automations that wait for nothing.

    Raises:
        PollenError: A file can't be used.
    """
    found = read_declared(site, look_up, folder)
    return [each.automation for each in found if each.automation is not None]
