"""The story of training: which stages, in which order. Nothing else happens here."""

from collections.abc import Sequence
from pathlib import Path

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from pydantic import BaseModel, ConfigDict

from pollen.dataset.manifest import Split
from pollen.dataset.settings import DatasetSettings
from pollen.errors import PollenError
from pollen.evaluation.gate import GateSettings
from pollen.layout import SMUDGES
from pollen.training.identity import TrainingIdentity
from pollen.training.model_card import Making
from pollen.training.settings import TrainSettings
from tasks.cluster.turns import say_where
from tasks.models.lineage import lineage_of
from tasks.models.publishing import publish
from tasks.models.resolve import PRODUCTION, Model, resolve_model
from tasks.progress import Published, watched_by, watcher
from tasks.stage import logger
from tasks.storage.scratch import scratch_folder
from tasks.storage.store import Location
from tasks.training.dataset import DatasetVersion, Staging, archive_zips, update_dataset
from tasks.training.dataset_report import report_dataset
from tasks.training.evaluate import choose_card, evaluate_model, labelled_pictures
from tasks.training.negatives import Smudge, digest, fetch_smudges, make_negative_files
from tasks.training.pictures import fetch_pictures
from tasks.training.release import TrainingSummary, conclude, describe, judge
from tasks.training.tidying import tidy_up
from tasks.training.train import (
    TrainingPlan,
    base_name,
    begin_training,
    find_training,
    lay_out,
    resolve_base,
    train_model,
)


class TrainRequest(BaseModel):
    """What a person asks for.

    Attributes:
        staging: The dataset, and where newly labelled exports are.
        smudges: Where pictures of debris are; None: nowhere.
        output: The root of the registry.
        base: What training starts from; None: what its recipe starts from.
        fresh: Train once more, even where the same training was done.
        settings: How to train.
        merging: How to merge exports.
        gate: When the model is promoted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    staging: Staging
    smudges: Location | None = None
    output: Location
    base: str | None = None
    fresh: bool = False
    settings: TrainSettings = TrainSettings()
    merging: DatasetSettings = DatasetSettings()
    gate: GateSettings = GateSettings()


def make_model(request: TrainRequest) -> TrainingSummary:
    """From staged exports to a published model, in production where the gate lets it.

    The whole story, with or without a Prefect flow run around it.

    Raises:
        PollenError: The run could not do its work; the message holds the remedy.
    """
    begin_training(request.settings)
    base = resolve_base(base_name(request.base, request.settings), request.output, request.settings)
    progress = watcher()
    progress.say("merging what is staged")
    dataset = update_dataset(request.staging, request.merging)
    # In this order: what was found in the zips is lost with them.
    logger().info("dataset report: %s", report_dataset(request.staging, dataset))
    archive_zips(request.staging.zips, dataset.merged)
    with scratch_folder("training") as scratch:
        folder = Path(scratch)
        smudges = fetch_smudges(request.smudges, folder / "smudges")
        settings = request.settings
        plan = find_training(
            TrainingIdentity.of(
                dataset.manifest.pictures_id, base.identity, digest(smudges), settings
            ),
            dataset.name,
            base,
            settings,
            request.output,
            fresh=request.fresh,
        )
        tidy_up(plan)
        if not plan.published:
            _train(request, dataset, plan, smudges, folder)
        return conclude(plan, dataset.refused)


def _train(
    request: TrainRequest,
    dataset: DatasetVersion,
    plan: TrainingPlan,
    smudges: Sequence[Smudge],
    folder: Path,
) -> None:
    """Train, measure beside the model in production, and publish with what the gate says."""
    manifest, settings, progress = dataset.manifest, request.settings, watcher()
    # Where a person keeps a file is nobody's business.
    named = Path(base_name(request.base, settings)).name
    production = resolve_model(PRODUCTION, request.output)  # a damaged one stops us now, not later
    progress.say("preparing pictures")
    files = {
        split: fetch_pictures(manifest.split(split), request.staging.pictures) for split in Split
    }
    negatives = make_negative_files(smudges, files[Split.TRAIN], settings, folder / "negatives")
    laid_out = lay_out(files[Split.TRAIN], negatives, files[Split.VAL], plan, folder / "data")
    progress.say("training")
    trained = train_model(plan, laid_out, folder, progress)
    progress.say("evaluating")
    pictures = {
        split: labelled_pictures(
            manifest.split(split), files[split], request.merging.sample_pattern
        )
        for split in (Split.VAL, Split.TEST)
    }
    card = choose_card(plan, trained, laid_out, pictures[Split.VAL])
    split = Split.TEST if pictures[Split.TEST] else Split.VAL
    judgement = judge(
        evaluate_model(Model(trained.weights, card), pictures[split], settings),
        evaluate_model(production, pictures[split], settings),
        split,
        request.gate,
        base=(named, plan.base.lineage),
        known=lineage_of(production, request.output),
    )
    making = Making(
        dataset=request.staging.name,
        number=dataset.number,
        manifest=manifest,
        base=named,
        identity=plan.identity,
        course=trained.course,
        negatives=len(negatives),
        lineage=plan.base.lineage.and_of(image.group for image in manifest.split(Split.TRAIN)),
    )
    publish(plan.output, card, trained.weights, describe(judgement, trained, making))


def _run_name() -> str:
    """What the Prefect UI calls a run: what it trains on, and where."""
    given = flow_run.parameters
    request = given.get("request")
    if isinstance(request, TrainRequest):
        return f"train {request.staging.name} in {request.output.address}"
    place = Location(block=str(given.get("bucket")), prefix=given.get("prefix") or "")
    return f"train {given.get('dataset')} in {place.address}"


@flow(name="train", flow_run_name=_run_name, persist_result=False)
def train(
    bucket: str = "pollen",
    prefix: str | None = None,
    dataset: str = "pollen",
    base: str | None = None,
    fresh: bool = False,
    settings: TrainSettings = TrainSettings(),  # noqa: B008  (frozen; the UI shows its defaults)
    merging: DatasetSettings = DatasetSettings(),  # noqa: B008
    gate: GateSettings = GateSettings(),  # noqa: B008
) -> State[TrainingSummary]:
    """Train a model on the dataset and everything that is staged, and publish it.

    Labelled exports (zips) in `staging_area/` are merged into `datasets/<dataset>/` first. The model goes to
    `trained_models/`, and into production if the gate lets it.

    Args:
        bucket: Name of the saved S3Bucket block.
        prefix: Folder in the bucket (below the block's own folder) that holds `datasets/` and `staging_area/`.
        dataset: Name of the dataset.
        base: What training starts from: `bundled`, `production`, the version of a published model, the path of a
            .pt file, or an architecture such as `yolov8n-seg.yaml` for random weights. Left empty: `bundled`, or random
            weights with the bundled recipe.
        fresh: Train once more although this training was done before.
        settings: How to train.
        merging: How to merge exports.
        gate: When the model goes into production by itself.
    """
    root = Location(block=bucket, prefix=prefix or "")
    say_where(root)
    try:
        request = TrainRequest(
            staging=Staging.below(root, dataset),
            smudges=root.below(SMUDGES),
            output=root,
            base=base,
            fresh=fresh,
            settings=settings,
            merging=merging,
            gate=gate,
        )
    except PollenError as error:
        return Failed(message=str(error))
    return _as_state(request)


@flow(name="train", flow_run_name=_run_name, persist_result=False)
def train_request(request: TrainRequest) -> State[TrainingSummary]:
    """Train as asked for: what `pollen train` runs."""
    return _as_state(request)


def _as_state(request: TrainRequest) -> State[TrainingSummary]:
    """Run the story and name its end; the message carries the figures, or the remedy."""
    published = Published(watcher(), steps=True)
    try:
        with watched_by(published):
            summary = make_model(request)
        published.ended(summary.message)
    except PollenError as error:
        return Failed(message=str(error))
    return Completed(name=summary.outcome, message=summary.message, data=summary)
