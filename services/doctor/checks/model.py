"""Check the model in production of a root: there is one, and it is the one that was promoted."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pollen.layout import promotion_key
from services.doctor.checking import About
from services.doctor.checks.storage import HASTY
from services.doctor.finding import Category, Finding
from tasks.faults import storage_errors
from tasks.models.promotions import check_stored_weights
from tasks.models.registry import read_card, read_history
from tasks.storage.buckets import BucketStore
from tasks.storage.store import Location, open_store

_ABOUT = About(Category.MODEL)
_CHUNK_BYTES: Final = 1024 * 1024


class _InOneGo(BucketStore):
    """A bucket that downloads in the calling thread: threads of a managed transfer would keep the program alive."""

    def fetch(self, key: str, scratch: Path) -> Path:
        """See `Store`."""
        with storage_errors(self.place(key)):
            body = self.client.get_object(Bucket=self.bucket, Key=self.key(key))["Body"]
            with tempfile.NamedTemporaryFile(dir=scratch, delete=False) as file:
                for chunk in body.iter_chunks(_CHUNK_BYTES):
                    file.write(chunk)
        return Path(file.name)


def check_model(root: Location) -> Iterator[Finding]:
    """Read the promotions, and hash the stored weights of the model in production.

    Raises:
        PollenError: If storage fails, or the model's card or weights are missing or damaged.
    """
    store = open_store(root, HASTY)
    history = read_history(store)
    damaged = [number for number, made in history.promotions.items() if made is None]
    if not history.highest:
        yield _ABOUT.error(
            f"no model is in production in {store.address}: runs on a cluster fail",
            resolution="run `pollen setup`, which promotes the bundled model, or `pollen models promote VERSION`",
        )
        return
    earlier = [number for number in damaged if number != history.highest]
    if earlier:
        yield _ABOUT.warning(
            f"{len(earlier)} earlier promotion(s) in {store.address} can't be read",
            ", ".join(map(promotion_key, earlier)),
            "detection is not affected; to go back past them, use `pollen models rollback --to VERSION`",
        )
    current = history.current
    if current is None:
        yield _ABOUT.error(
            f"the latest promotion, {store.address}/{promotion_key(history.highest)}, can't be read",
            resolution="promote a model again: `pollen models promote VERSION`",
        )
        return
    card = read_card(store, current.version)
    if card.sha256 != current.sha256:
        yield _ABOUT.error(
            f"model '{card.version}' in {store.address} is not the one that was promoted",
            f"SHA-256 {card.sha256} in its card, {current.sha256} in promotion {history.highest}",
            "promote it again if the change was intended, else go back: `pollen models rollback`",
        )
        return
    if isinstance(store, BucketStore):
        store = _InOneGo(store.client, store.bucket, store.prefix)
    check_stored_weights(store, card)
    yield _ABOUT.ok(
        f"model '{card.version}' is in production in {store.address} (promotion {history.highest}), and its weights "
        "are the promoted ones",
        f"SHA-256 {card.sha256}",
    )
