"""The bucket layout: every key the flows read or write, below a configurable root."""

INPUTS = "detect_images/"
ANNOTATED = "detected_images/"
RESULTS = "pollen_counting_results/"
COUNTS_TABLE = RESULTS + "pollen_counts.csv"
GRAINS_TABLE = RESULTS + "particle_measurements.csv"
#: There as long as some of the tables may be older than others; says why.
TABLES_PENDING = RESULTS + "tables.pending.txt"
SAMPLES_TABLE = RESULTS + "sample_viability.csv"
RECORDS = RESULTS + "records/"
#: What runs on a cluster share among them; removed when the counting ends.
PLANS = RESULTS + "plans/"
REPORTS = RESULTS + "reports/"
REPORT = REPORTS + "detection_report.html"
MODELS = "trained_models/"
METRICS_NAME = "metrics.json"
TRAINING_NAME = "training.json"
CONCLUSION_NAME = "conclusion.json"
PROMOTIONS = MODELS + "promotions/"
CHECKPOINTS = MODELS + "checkpoints/"
DATASETS = "datasets/"
STAGING = "staging_area/"
STAGING_ARCHIVE = STAGING + "archive/"
SMUDGES = "smudges_raw/"

#: Folders the flows write; never read as input where the output lies inside the source.
WRITTEN = (ANNOTATED, RESULTS, MODELS)


def annotated_key(frame_name: str) -> str:
    """Where the annotated picture of a frame goes: the suffix is kept, so ``a.png`` and ``a.tif`` stay two."""
    return f"{ANNOTATED}{frame_name}.jpg"


def records_folder(model_version: str, fingerprint: str) -> str:
    """Where the records of one model and one set of settings lie: planning reads no others."""
    return f"{RECORDS}{model_version}-{fingerprint}/"


def plans_folder(run_id: str) -> str:
    """Where the plans of one flow run lie that has others count for it."""
    return f"{PLANS}{run_id}/"


def plan_key(run_id: str, number: int) -> str:
    """The plan of a flow run's round ``number``, counted from 1."""
    return f"{plans_folder(run_id)}{number:04d}.json"


def plan_number(key: str) -> int | None:
    """The round of a plan, ``None`` for anything else that lies in the folder."""
    name = key.rpartition("/")[2].removesuffix(".json")
    return int(name) if name.isdecimal() and name.isascii() and key.endswith(".json") else None


def model_folder(model_version: str) -> str:
    """Where a published model and all about it lies."""
    return f"{MODELS}{model_version}/"


def weights_key(model_version: str) -> str:
    """Where the weights of a published model lie."""
    return f"{MODELS}{model_version}/weights/best.pt"


def card_key(model_version: str) -> str:
    """Where the machine-readable card of a published model lies."""
    return f"{MODELS}{model_version}/model.json"


def claim_key(model_version: str) -> str:
    """Where all of a model lies in one piece while it is being published."""
    return f"{MODELS}{model_version}/claim.zip"


def metrics_key(model_version: str) -> str:
    """Where the figures of a published model lie."""
    return f"{MODELS}{model_version}/{METRICS_NAME}"


def training_key(model_version: str) -> str:
    """Where it is recorded how a published model was trained."""
    return f"{MODELS}{model_version}/{TRAINING_NAME}"


def conclusion_key(model_version: str) -> str:
    """Where it is recorded that the training of a published model came to its end, and how."""
    return f"{MODELS}{model_version}/{CONCLUSION_NAME}"


def promotion_key(number: int) -> str:
    """The object that records promotion ``number``; the highest names the production model."""
    return f"{PROMOTIONS}{number:06d}.json"


def promotion_number(key: str) -> int | None:
    """The number of a promotion object, ``None`` for anything else that lies in the folder."""
    name = key.removeprefix(PROMOTIONS).removesuffix(".json")
    return int(name) if name.isdecimal() and key == f"{PROMOTIONS}{name}.json" else None


def checkpoints_folder(training_id: str) -> str:
    """Where a training keeps what it needs to go on."""
    return f"{CHECKPOINTS}{training_id}/"


def dataset_folder(name: str) -> str:
    """Where a dataset's pictures, labels and manifests lie."""
    return f"{DATASETS}{name}/"
