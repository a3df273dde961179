"""`pollen doctor`: check everything or explain one run, and print the findings."""

from pathlib import Path

from services.commands.shared import guarded
from services.console import set_up_logging
from services.doctor.finding import Finding
from services.doctor.printing import show


def run_doctor(
    run: str | None, config: Path | None, *, as_json: bool = False, verbose: bool = False
) -> int:
    """Check everything, or explain one run.

    Args:
        run: Name or id of a flow run; None to check everything.
        config: The site file; None for the application's.
        as_json: Print JSON.
        verbose: Show every step.

    Returns:
        The exit code: 0 nothing is wrong, 1 something needs attention, 2 something will not work.
    """
    set_up_logging(verbose=verbose)
    return guarded(
        lambda: show(_findings(run, config), as_json=as_json),
        stopped="stopped; nothing was changed",
        kept="the doctor changes nothing",
        verbose=verbose,
    )


def _findings(run: str | None, config: Path | None) -> list[Finding]:
    if run is not None:
        from services.doctor.run.one_run import explain_run

        return explain_run(run)

    from services.doctor.all_checks import check_all

    return check_all(config)
