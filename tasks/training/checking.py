"""Staged exports looked at as a training would read them, before anybody trains: nothing is changed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prefect.artifacts import create_markdown_artifact
from prefect.context import FlowRunContext

from pollen.dataset.check import CheckOutcome, CheckResult, check, refused
from pollen.dataset.findings import Severity
from pollen.dataset.settings import DatasetSettings
from pollen.errors import PollenError
from pollen.layout import STAGING
from pollen.reports.pages import markdown
from tasks.faults import NotFoundError
from tasks.progress import best_effort
from tasks.stage import healing, logger, stage
from tasks.storage.objects import StoredObject
from tasks.storage.scratch import scratch_folder
from tasks.storage.store import Location, Store, open_store
from tasks.training.dataset import staged_zips

#: Findings of one export that are shown in the Prefect UI, the gravest first.
FINDINGS_SHOWN: Final = 60

#: Names of states a check ends in.
ALL_GOOD: Final = "Completed"
CHANGES_NEEDED: Final = "ChangesNeeded"
NOTHING_STAGED: Final = "NothingNew"


@dataclass(frozen=True)
class Checked:
    """The findings on a staging area.

    Attributes:
        place: Where it is.
        results: One per zip, by name.
    """

    place: str
    results: tuple[CheckResult, ...]

    @property
    def wanting(self) -> tuple[CheckResult, ...]:
        """The zips that need corrections, or of which something would be left out; the worst first."""
        found = (
            each
            for each in self.results
            if each.left_out or each.verdict not in {CheckOutcome.GOOD, CheckOutcome.LOOK}
        )
        return tuple(sorted(found, key=lambda each: (each.is_sound, each.is_usable)))

    @property
    def is_sound(self) -> bool:
        """Return whether every zip could be opened and looked into."""
        return all(each.is_sound for each in self.results)

    @property
    def outcome(self) -> str:
        """Name of the state in which the check ends, where all zips are sound."""
        if not self.results:
            return NOTHING_STAGED
        return CHANGES_NEEDED if self.wanting else ALL_GOOD

    @property
    def message(self) -> str:
        """The message of the state: the numbers, and what to do."""
        if not self.results:
            return f"no zip is staged in {self.place}"
        pictures = sum(each.pictures for each in self.results)
        grains = sum(each.grains.total for each in self.results)
        number = len(self.results)
        exports = "1 export" if number == 1 else f"{number} exports"
        said = [f"{exports}: {pictures} pictures with {grains} grains can be used"]
        if self.wanting:
            said.append(f"to correct: {', '.join(each.name for each in self.wanting[:5])}")
            said.append("the run's artifact 'dataset-check' lists the findings, with file and line")
            worst = next((each.findings[0] for each in self.wanting if each.findings), None)
            said.append(f"first finding: {worst}" if worst else "")
        elif any(each.verdict is CheckOutcome.LOOK for each in self.results):
            said.append("there are warnings: see the run's artifact 'dataset-check'")
        return "; ".join(filter(None, said))


@stage("check what is staged")
def check_staged(root: Location, export: str | None, settings: DatasetSettings) -> Checked:
    """Check one staged zip, or all of them.

    Args:
        root: The root of the staging area.
        export: Name of the zip in the staging area, or its key below the root; None for all.
        settings: How a merge would read them.

    Raises:
        PollenError: If there is no such zip, or the store fails.
    """
    store = open_store(root.below(STAGING))
    chosen = _chosen(store, export)
    results = []
    for entry in chosen:
        try:
            results.append(_check(store, entry, settings))
        except NotFoundError:
            if export is not None:
                raise
            continue  # merged, or taken away by somebody, since it was listed
        logger().info("%s %s", entry.key, results[-1].verdict.sentence("in the report"))
    return Checked(store.address, tuple(results))


def _chosen(store: Store, export: str | None) -> list[StoredObject]:
    staged = staged_zips(store)
    if export is None:
        return staged
    name = export.removeprefix(STAGING)
    # Only what is listed: a name comes from outside, and may be of anything.
    found = [entry for entry in staged if entry.key == name]
    if not found:
        there = ", ".join(entry.key for entry in staged[:5]) or "none"
        raise PollenError(
            f"there is no zip {name!r} in {store.address}: check its name, or stage it again. If it was merged "
            f"in the meantime, it is in archive/. Staged now: {there}"
        )
    return found


def _check(store: Store, entry: StoredObject, settings: DatasetSettings) -> CheckResult:
    """Check a zip, which is fetched for the check only; one that is too large is not fetched.

    Raises:
        PollenError: If the store fails, or this machine has no room.
    """
    most_bytes = settings.limits.total_gigabytes * 1e9
    if entry.size > most_bytes:
        return refused(
            entry.key,
            f"has {entry.size / 1e9:.1f} GB, more than {settings.limits.total_gigabytes:g} GB, and was not "
            "opened: stage the pictures in several zips",
        )
    try:
        with scratch_folder("check") as scratch:
            path = healing(store.fetch)(entry.key, Path(scratch))
            return check(path, settings, entry.key)
    except OSError as error:
        raise PollenError(
            f"{entry.key} can't be kept on this machine while it is checked ({error}): it has {entry.size / 1e6:.0f} "
            "MB; give the work pool more scratch_size and ephemeral_storage_limit",
        ) from error


def export_name(export: str) -> str:
    """Return what the name of a flow run calls the exports that it checks."""
    return export.rpartition("/")[2] or "exports"


def refuse_unsound(checked: Checked) -> None:
    """Raise `PollenError` if a zip could not be read at all."""
    if not checked.is_sound:
        raise PollenError(checked.message)


def show_checked(checked: Checked) -> None:
    """Show the findings in the Prefect UI; outside of a flow run, do nothing."""
    if FlowRunContext.get() is None:
        return
    with best_effort("what was found"):
        create_markdown_artifact(
            "\n\n".join(_page(checked)) + "\n",
            key="dataset-check",
            description=markdown(f"Exports staged in {checked.place}"),
        )


def _page(checked: Checked) -> Iterator[str]:
    yield f"# Exports in {markdown(checked.place)}"
    if not checked.results:
        yield "No zip is staged."
    for result in checked.results:
        yield f"## {markdown(result.name)}"
        place = "below" if result.findings else "above"
        yield f"**{markdown(result.name)} {result.verdict.sentence(place)}**"
        if result.pictures:
            yield _table(_counts(result))
        if result.findings:
            yield "\n".join(_findings(result))


def _counts(result: CheckResult) -> Sequence[tuple[str, int]]:
    grains = result.grains
    return (
        ("pictures that can be used", result.pictures),
        ("pictures left out", result.left_out),
        ("viable grains", grains.viable),
        ("non-viable grains", grains.non_viable),
        ("grains labelled 'unsure'", grains.unsure),
    )


def _table(rows: Sequence[tuple[str, int]]) -> str:
    return "\n".join(
        ["| | |", "|---|---:|", *(f"| {name} | {number:,} |" for name, number in rows)]
    )


def _findings(result: CheckResult) -> Iterator[str]:
    yield "| | where | what |"
    yield "|---|---|---|"
    for found in result.findings[:FINDINGS_SHOWN]:
        weight = f"**{found.severity}**" if found.severity is Severity.ERROR else found.severity
        yield f"| {weight} | {markdown(found.where)} | {markdown(found.message)} |"
    rest = len(result.findings) - FINDINGS_SHOWN
    if rest > 0:
        yield f"| | | and {rest} more findings: `pollen dataset check` shows them |"
