"""The story of training: which stages run in which order, from staged exports to a model in production."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from prefect import flow
from prefect.client.schemas.objects import State

from pollen.dataset.manifest import Split
from pollen.dataset.settings import DatasetSettings
from pollen.evaluation.gate import GateSettings
from pollen.layout import SMUDGES
from pollen.training.identity import TrainingIdentity
from pollen.training.settings import TrainSettings
from tasks.cluster.turns import tag_with_root
from tasks.flow_runs import final_state, named
from tasks.models.lineage import lineage_of
from tasks.models.publishing import drop_claim, publish
from tasks.models.resolve import PRODUCTION, Model, resolve_model
from tasks.models.verdicts import read_verdict, record_conclusion
from tasks.progress import watcher
from tasks.stage import logger
from tasks.storage.scratch import scratch_folder
from tasks.storage.store import Location, open_store
from tasks.training.checkpoints import drop_checkpoints
from tasks.training.dataset import DatasetVersion, Staging, archive_zips, update_dataset
from tasks.training.dataset_report import report_dataset
from tasks.training.evaluate import choose_card, evaluate_model, labelled_pictures
from tasks.training.negatives import DebrisFile, digest, fetch_debris, make_negative_files
from tasks.training.pictures import fetch_pictures
from tasks.training.release import TrainingSummary, describe, judge, promote_as_decided
from tasks.training.release_artifact import show_model
from tasks.training.request import TrainRequest
from tasks.training.tidying import tidy_up
from tasks.training.train import (
    TrainingPlan,
    begin_training,
    find_training,
    lay_out,
    resolve_base,
    train_model,
)


def make_model(request: TrainRequest) -> TrainingSummary:
    """Make a published model of staged exports, and put it into production if the gate lets it.

    The whole story, with or without a Prefect flow run around it.

    Raises:
        PollenError: If the run could not do its work; the message holds the remedy.
    """
    settings, output = request.settings, request.output
    begin_training(settings)
    base = resolve_base(request.base_name, output, settings)
    watcher().say("merging what is staged")
    dataset = update_dataset(request.staging, request.merging)
    # In this order: archived zips are not read again, and what was found in them would be lost.
    logger().info("dataset report: %s", report_dataset(request.staging, dataset))
    archive_zips(request.staging.zips, dataset.merged)
    with scratch_folder("training") as scratch:
        folder = Path(scratch)
        debris = fetch_debris(request.debris, folder / "debris")
        identity = TrainingIdentity.of(
            dataset.manifest.pictures_id, base.identity, digest(debris), settings
        )
        plan = find_training(identity, dataset.name, base, settings, output, fresh=request.fresh)
        tidy_up(plan)
        if not plan.published:
            train_and_publish(request, dataset, plan, debris, folder)
        return conclude(plan, dataset.refused)


def train_and_publish(
    request: TrainRequest,
    dataset: DatasetVersion,
    plan: TrainingPlan,
    debris: Sequence[DebrisFile],
    folder: Path,
) -> None:
    """Train, measure the model beside the one in production, and publish it with the gate's decision.

    Raises:
        PollenError: If the run could not do its work; the message holds the remedy.
    """
    manifest, settings, progress = dataset.manifest, request.settings, watcher()
    production = resolve_model(PRODUCTION, request.output)  # a damaged one stops us now, not later
    progress.say("preparing pictures")
    files = {
        split: fetch_pictures(manifest.split(split), request.staging.pictures) for split in Split
    }
    negatives = make_negative_files(debris, files[Split.TRAIN], settings, folder / "negatives")
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
        base=(request.base_shown, plan.base.lineage),
        known=lineage_of(production, request.output),
    )
    making = request.making(dataset, plan, trained.course, len(negatives))
    publish(plan.output, card, trained.weights, describe(judgement, trained, making))


def conclude(plan: TrainingPlan, refused: tuple[str, ...] = ()) -> TrainingSummary:
    """Promote a published model if the gate let it and it never was promoted; drop what training left.

    The gate's decision is read from the registry. So a run that was stopped between publishing and
    promoting is concluded by the next one, and a model that a person rolled back is not promoted
    again.

    Args:
        plan: The training, whose model is published.
        refused: Names of staged zips that were not merged, for the summary.

    Raises:
        PollenError: If the store fails.
    """
    store = open_store(plan.output)
    verdict = read_verdict(plan.output, plan.version)
    outcome, lost = promote_as_decided(plan, verdict)
    record_conclusion(store, plan.version, lost)
    drop_checkpoints(store, plan.id)
    drop_claim(store, plan.version)
    summary = TrainingSummary.of(plan, verdict, outcome, lost, refused, root=store.address)
    show_model(store, plan.version, summary.message, verdict.metrics)
    return summary


#: The name of the artifact that shows how far a run is.
PROGRESS: Final = "training-progress"


@flow(
    name="train",
    flow_run_name=named("train {dataset} in {root}"),
    persist_result=False,
)
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

    def story() -> TrainingSummary:
        tag_with_root(root)
        request = TrainRequest(
            staging=Staging.below(root, dataset),
            debris=root.below(SMUDGES),
            output=root,
            base=base,
            fresh=fresh,
            settings=settings,
            merging=merging,
            gate=gate,
        )
        return make_model(request)

    return final_state(story, progress=PROGRESS, steps=True)


@flow(
    name="train-here",
    flow_run_name=named("train {request.staging.name} in {request.output.address}"),
    persist_result=False,
)
def train_here(request: TrainRequest) -> State[TrainingSummary]:
    """Train as requested, in this process: the flow run of `pollen train`. It has no deployment."""
    return final_state(lambda: make_model(request), progress=PROGRESS, steps=True)
