"""What `pollen doctor` does: looks, tells what it found, and ends with the code that goes with it."""

from pathlib import Path

from services.commands.running import guarded
from services.console import set_up_logging
from services.doctor.printing import show


def run_doctor(
    run: str | None, config: Path | None, *, as_json: bool = False, verbose: bool = False
) -> int:
    """Look at everything, or explain one run.

    Args:
        run: Name or id of a flow run; None: look at everything.
        config: The site file; None for the application's.
        as_json: Print JSON.
        verbose: Tell every step.

    Returns:
        The exit code: 0 nothing is wrong, 1 something wants a look, 2 something will not work.
    """
    set_up_logging(verbose=verbose)
    return guarded(
        lambda: _look(run, config, as_json=as_json),
        stopped="stopped; nothing was changed",
        kept="the doctor changes nothing",
        verbose=verbose,
    )


def _look(run: str | None, config: Path | None, *, as_json: bool) -> int:
    if run is not None:
        from services.doctor.run.one_run import explain_run

        return show(explain_run(run), as_json=as_json)
    from services.doctor.all_checks import examine

    return show(examine(config), as_json=as_json)
