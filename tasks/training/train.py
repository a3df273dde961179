"""The stage that trains, and what comes right before and behind it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pollen.dataset.labelled import LabelledPicture
from pollen.detection.tiling import ScaleError, TileGrid
from pollen.errors import PollenError
from pollen.layout import checkpoints_folder
from pollen.training.base import Base, from_weights, untrained
from pollen.training.examples import example_of, outlines_of
from pollen.training.folder import (
    GrainSizes,
    largest_label,
    write_description,
    write_split,
)
from pollen.training.identity import TrainingIdentity
from pollen.training.recipe.network import ARCHITECTURE
from pollen.training.recipe.stages import window
from pollen.training.recipe.states import start_weights, write_result
from pollen.training.recipe.train import train_recipe
from pollen.training.settings import TrainSettings
from pollen.training.ultralytics_run import (
    Checkpoint,
    Epoch,
    TrainingError,
    device_name,
    strip,
    train,
)
from tasks.cluster.devices import check_device
from tasks.models.lineage import lineage_of
from tasks.models.registry import published_versions, read_training
from tasks.models.resolve import BUNDLED, resolve_model
from tasks.models.verdicts import DamagedVerdictError, read_verdict
from tasks.progress import Progress
from tasks.stage import logger, stage
from tasks.storage.scratch import remove_dead, scratch_folders
from tasks.storage.store import Location, Store, open_store
from tasks.training.checkpoints import Checkpoints
from tasks.training.forks import drop_exit_hooks_in_forks

#: Pixel sizes that a warning names.
SIZES_NAMED: Final = 5


@dataclass(frozen=True)
class TrainingPlan:
    """A training: what it learns from, and with which settings.

    Attributes:
        identity: What makes it the same training as another.
        dataset: Name of the dataset's version.
        base: What it starts from.
        settings: How it trains.
        output: The root below which checkpoints go.
        published: The training was done before.
    """

    identity: TrainingIdentity
    dataset: str
    base: Base
    settings: TrainSettings
    output: Location
    published: bool = False

    @property
    def id(self) -> str:
        """Short name."""
        return self.identity.id

    @property
    def version(self) -> str:
        """The version of the model."""
        return f"{self.dataset}-{self.id[:8]}"


@dataclass(frozen=True)
class LaidOut:
    """A training's pictures as the model sees them.

    Attributes:
        description: `data.yaml`; None: the recipe makes its own pictures of the files.
        sizes: Of the labelled grains of the train split.
        grid: How pictures were cut, and detection will cut them.
        pixel_size_um: Width of a pixel, where the files say it and agree.
        files: Of the train split, negatives among them.
    """

    description: Path | None
    sizes: GrainSizes
    grid: TileGrid
    pixel_size_um: float | None = None
    files: tuple[LabelledPicture, ...] = ()


@dataclass(frozen=True)
class Trained:
    """The result of a training: weights, the table of its course, the course in words, and the device."""

    weights: Path
    results: Path
    course: str
    device: str


def begin_training(settings: TrainSettings) -> None:
    """Remove what killed runs left here, and check the device before anything is merged.

    Raises:
        PollenError: If a GPU is wanted and there is none.
    """
    remove_dead(scratch_folders())
    check_device(settings.device)


def base_name(named: str | None, settings: TrainSettings) -> str:
    """Return the name of the base: the one a person gave, or the default of the recipe."""
    return named or (ARCHITECTURE if settings.recipe == "bundled" else BUNDLED)


@stage("find base {name}")
def resolve_base(name: str, output: Location, settings: TrainSettings) -> Base:
    """Find the base of a training.

    Args:
        name: An architecture (`yolov8n-seg.yaml`: random weights), `bundled`, `production`, a published
            version, or the path of a `.pt` file.
        output: The place whose registry is asked.
        settings: The recipe must be able to train it.

    Raises:
        PollenError: If there is no such thing, or it can't be trained.
    """
    architecture = untrained(name)
    if architecture is not None:
        if settings.recipe == "bundled" and name != ARCHITECTURE:
            raise PollenError(
                f"the bundled recipe trains {ARCHITECTURE}, not {name}: leave out the base, or set recipe: "
                "ultralytics"
            )
        return architecture
    if name.endswith(".pt") and not Path(name).is_file():
        raise PollenError(
            f"there is no file {name} to start from. Nothing is downloaded by name: give the path of a .pt file, "
            f"'bundled', or an architecture such as {name.removesuffix('.pt')}.yaml to start from random weights"
        )
    model = resolve_model.fn(name, output)
    if settings.recipe == "bundled":
        start_weights(model.weights)
    base = from_weights(model.weights, model.card.sha256)
    return replace(base, lineage=lineage_of.fn(model, output))


@stage("find training")
def find_training(
    identity: TrainingIdentity,
    dataset: str,
    base: Base,
    settings: TrainSettings,
    output: Location,
    *,
    fresh: bool,
) -> TrainingPlan:
    """Find out whether a training was done before; with `fresh` it is done once more.

    A fresh one that was stopped goes on, too: it is the first that is not published. What was trained
    before is known by the training's identity: a later version of the dataset that has the same
    pictures and labels gives a model another name, but teaches it nothing else.

    Args:
        identity: Of the training.
        dataset: Name of the dataset's version, with which the model's version begins.
        base: What it starts from.
        settings: How it trains.
        output: The root of the registry.
        fresh: See above.

    Raises:
        PollenError: If the store fails.
    """
    store = open_store(output)
    published = published_versions(store)
    plan = TrainingPlan(identity, dataset, base, settings, output)
    done: TrainingPlan | None = None
    while (found := _published(plan, published, store)) is not None:
        done = found
        plan = replace(plan, identity=plan.identity.again())
    if done is None:
        return plan
    return plan if fresh and _is_concluded(done, store) else done


def _published(plan: TrainingPlan, published: Collection[str], store: Store) -> TrainingPlan | None:
    """Return the plan of the model that this training made before, under the number its dataset had then."""
    if plan.version in published:
        return replace(plan, published=True)
    ending = plan.version.removeprefix(plan.dataset)
    for version in sorted(name for name in published if name.endswith(ending)):
        if read_training(store, version).get("training_id") == plan.id:
            return replace(plan, dataset=version.removesuffix(ending), published=True)
    return None


def _is_concluded(done: TrainingPlan, store: Store) -> bool:
    """Return whether nothing is left to do for a published model: no run was stopped after its publishing."""
    try:
        verdict = read_verdict.fn(done.output, done.version)
    except DamagedVerdictError:
        return True  # nobody can conclude it: to train once more is the remedy
    if verdict.conclusion is not None:
        return True
    left = any(True for _ in store.list(checkpoints_folder(done.id)))
    return not (verdict.is_open or left)


@stage("lay out pictures")
def lay_out(
    training: Sequence[LabelledPicture],
    negatives: Sequence[LabelledPicture],
    validation: Sequence[LabelledPicture],
    plan: TrainingPlan,
    folder: Path,
) -> LaidOut:
    """Cut all pictures into the tiles that the model sees.

    Raises:
        PollenError: If a picture or label can't be used, there are none, or the grains do not fit the input.
    """
    settings = plan.settings
    files = (*training, *negatives)
    tile_px, scale = settings.image_px, settings.working_scale
    if settings.recipe == "bundled":
        tile_px, scale = window()
    try:
        sizes = _sizes(training, validation)
        grid = sizes.grid(tile_px, scale)
        if settings.recipe == "bundled":
            return LaidOut(None, sizes, grid, _pixel_size_um(training), files)
        pieces = write_split(files, "train", folder, grid, plan.base.task)
        write_split(validation, "val", folder, grid, plan.base.task)
    except ScaleError as error:
        raise PollenError(
            f"{largest_label(training)} does not fit the model's input of {tile_px} px at working scale {scale:g}: "
            "check that label first; if it is right, "
            + ("set recipe: ultralytics, and " if settings.recipe == "bundled" else "")
            + "raise image_px, or lower working_scale"
        ) from error
    except OSError as error:
        raise PollenError(
            f"the training pictures can't be written to {folder} ({error}): make room on this disk, or set TMPDIR"
        ) from error
    logger().info("%d tiles of %d pictures to train on", pieces, len(files))
    return LaidOut(write_description(folder), sizes, grid, _pixel_size_um(training), files)


def _sizes(
    training: Sequence[LabelledPicture], validation: Sequence[LabelledPicture]
) -> GrainSizes:
    """Return the sizes of the train split's grains; both splits must have some."""
    if not any(outlines_of(file.grains, file.size_px)[0] for file in validation):
        raise TrainingError(
            "the dataset has no labelled grain in its val split, which decides the best epoch: stage labelled "
            "pictures of more plants, and train again"
        )
    return GrainSizes.of([outlines_of(file.grains, file.size_px)[0] for file in training])


def _pixel_size_um(training: Sequence[LabelledPicture]) -> float | None:
    """Return the width of a pixel if every picture with grains states it, and all agree.

    One for some of them would be claimed of all that the model learnt from: frames that say their
    own would be counted at a scale that the others never had.
    """
    labelled = [file for file in training if outlines_of(file.grains, file.size_px)[0]]
    stated = [round(size, 4) for file in labelled if (size := file.pixel_size_um())]
    known = sorted(set(stated))
    if len(known) == 1 and len(stated) == len(labelled):
        return known[0]
    if known:
        logger().warning(
            "%d of %d training pictures with grains state the size of a pixel (%s micrometres): expected all of them "
            "to state it, and to agree. The model's card states no size, and other frames are taken at their own scale",
            len(stated),
            len(labelled),
            ", ".join(map(str, known[:SIZES_NAMED]))
            + (", ..." if len(known) > SIZES_NAMED else ""),
        )
    return None


@stage("train {plan.id}")
def train_model(plan: TrainingPlan, laid_out: LaidOut, folder: Path, progress: Progress) -> Trained:
    """Train, or resume the same training from its newest checkpoint.

    Raises:
        PollenError: If the training can't go on; the message holds the remedy.
    """
    drop_exit_hooks_in_forks()
    settings = plan.settings
    keeper = Checkpoints(
        open_store(plan.output), plan.id, folder / "checkpoints", settings.checkpoint_minutes
    )
    try:
        newest = keeper.newest()
        if newest is not None:
            unit = "step" if settings.recipe == "bundled" else "epoch"
            logger().info("training %s resumes after %s %d", plan.id, unit, newest.epoch)
        run = _run_recipe if laid_out.description is None else _run_ultralytics
        trained = run(plan, laid_out, folder, _Watch(keeper, progress), newest)
        keeper.wait()
    except OSError as error:
        raise PollenError(
            f"the training can't write below {folder} ({error}): make room on this disk, or set TMPDIR, then run "
            "again to resume from the last checkpoint"
        ) from error
    finally:
        keeper.close()
    return trained


def _run_ultralytics(
    plan: TrainingPlan, laid_out: LaidOut, folder: Path, watch: "_Watch", newest: Checkpoint | None
) -> Trained:
    """Train on tiles of the pictures, all of them in every epoch."""
    base, settings = plan.base, plan.settings
    data = laid_out.description or folder
    last = train(base.source, base.task, data, folder / "training", settings, watch, newest)
    weights = folder / "best.pt"
    strip(last.best, weights)
    course = f"{last.epoch} epochs, the best by mAP on val was kept"
    return Trained(weights, last.results, course, device_name(settings))


def _run_recipe(
    plan: TrainingPlan, laid_out: LaidOut, folder: Path, watch: "_Watch", newest: Checkpoint | None
) -> Trained:
    """Train by the recipe of the bundled model, on scenes made of the pictures."""
    settings = plan.settings
    start = None if plan.base.source == ARCHITECTURE else Path(plan.base.source)
    pictures = [] if newest and newest.ended else [example_of(file) for file in laid_out.files]
    last = train_recipe(pictures, folder / "training", settings, watch, start, newest)
    weights = folder / "best.pt"
    write_result(last.best, weights)
    course = f"{last.epoch} steps of the bundled recipe, their last running averages were averaged"
    return Trained(weights, last.results, course, device_name(settings))


class _Watch:
    """Keeps checkpoints and tells of epochs."""

    def __init__(self, keeper: Checkpoints, progress: Progress) -> None:
        self._keeper = keeper
        self._progress = progress

    def epoch_done(self, epoch: Epoch) -> None:
        """See `pollen.training.ultralytics_run.Watcher`."""
        logger().info("%s", epoch.sentence)
        self._progress.reached(epoch.number, epoch.of, epoch.sentence)

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """See `pollen.training.ultralytics_run.Watcher`."""
        self._keeper.keep(checkpoint)
