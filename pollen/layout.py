"""The bucket layout: every key the flows read or write, below a configurable root."""

INPUTS = "detect_images/"
ANNOTATED = "detected_images/"
RESULTS = "pollen_counting_results/"
COUNTS_TABLE = RESULTS + "pollen_counts.csv"
GRAINS_TABLE = RESULTS + "particle_measurements.csv"
#: Present as long as some of the tables may be older than others; says why.
TABLES_PENDING = RESULTS + "tables.pending.txt"
SAMPLES_TABLE = RESULTS + "sample_viability.csv"
RECORDS = RESULTS + "records/"
#: Plans that the runs on a cluster share; removed when the counting ends.
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

#: Folders the flows write; never read as input if the output lies inside the source.
WRITTEN = (ANNOTATED, RESULTS, MODELS)


def annotated_key(frame_name: str) -> str:
    """Return the key of a frame's annotated picture; the suffix is kept, so `a.png` and `a.tif` stay two."""
    return f"{ANNOTATED}{frame_name}.jpg"


def records_folder(model_version: str, fingerprint: str) -> str:
    """Return the folder of the records of one model and one set of settings; planning reads no others."""
    return f"{RECORDS}{model_version}-{fingerprint}/"


def plans_folder(run_id: str) -> str:
    """Return the folder of the plans of a flow run that lets other runs count."""
    return f"{PLANS}{run_id}/"


def plan_key(run_id: str, number: int) -> str:
    """Return the key of the plan of a flow run's round `number`, counted from 1."""
    return f"{plans_folder(run_id)}{number:04d}.json"


def plan_number(key: str) -> int | None:
    """Return the round of a plan; None for anything else in the folder."""
    name = key.rpartition("/")[2].removesuffix(".json")
    return int(name) if name.isdecimal() and name.isascii() and key.endswith(".json") else None


def model_folder(model_version: str) -> str:
    """Return the folder of a published model and everything about it."""
    return f"{MODELS}{model_version}/"


def weights_key(model_version: str) -> str:
    """Return the key of the weights of a published model."""
    return f"{model_folder(model_version)}weights/best.pt"


def card_key(model_version: str) -> str:
    """Return the key of the machine-readable card of a published model."""
    return f"{model_folder(model_version)}model.json"


def claim_key(model_version: str) -> str:
    """Return the key of the file that holds all of a model while it is being published."""
    return f"{model_folder(model_version)}claim.zip"


def metrics_key(model_version: str) -> str:
    """Return the key of the figures of a published model."""
    return f"{model_folder(model_version)}{METRICS_NAME}"


def training_key(model_version: str) -> str:
    """Return the key of the record of how a published model was trained."""
    return f"{model_folder(model_version)}{TRAINING_NAME}"


def conclusion_key(model_version: str) -> str:
    """Return the key of the record of how the training of a published model ended."""
    return f"{model_folder(model_version)}{CONCLUSION_NAME}"


def promotion_key(number: int) -> str:
    """Return the key of promotion `number`; the highest names the production model."""
    return f"{PROMOTIONS}{number:06d}.json"


def promotion_number(key: str) -> int | None:
    """Return the number of a promotion; None for anything else in the folder."""
    name = key.removeprefix(PROMOTIONS).removesuffix(".json")
    return int(name) if name.isdecimal() and key == f"{PROMOTIONS}{name}.json" else None


def checkpoints_folder(training_id: str) -> str:
    """Return the folder in which a training keeps what it needs to resume."""
    return f"{CHECKPOINTS}{training_id}/"


def dataset_folder(name: str) -> str:
    """Return the folder of a dataset's pictures, labels and manifests."""
    return f"{DATASETS}{name}/"
