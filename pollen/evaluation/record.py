"""The figures of an evaluation: the content of `metrics.json`, as one record that all readers share.

In memory figures are exact; they are rounded as they are written, so that equal results give equal bytes and the
gate never decides on a rounded figure. Percentages have 2 decimals, fractions 4. A figure is `None` if it is not
known, such as the viability of pictures without grains, or if a file does not hold it: files of models that were
published by other versions are read as far as they can be. Records that the code itself makes are checked strictly.
"""

import json
from statistics import fmean
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PlainSerializer,
    ValidationError,
    ValidationInfo,
    model_validator,
)


def _rounded(digits: int) -> PlainSerializer:
    # + 0.0 turns -0.0 into 0.0.
    return PlainSerializer(
        lambda value: None if value is None else round(float(value), digits) + 0.0
    )


#: The context of a validation that leaves out what can't be read.
_LENIENT: Final = {"lenient": True}


def _is_lenient(info: ValidationInfo) -> bool:
    return info.context == _LENIENT


def _readable_texts(value: object, info: ValidationInfo) -> object:
    if _is_lenient(info) and isinstance(value, list):
        return [each for each in value if isinstance(each, str)]
    return value


Texts = Annotated[tuple[str, ...], BeforeValidator(_readable_texts)]
Count = Annotated[int | None, Field(ge=0)]
Fraction = Annotated[float | None, _rounded(4)]
Percent = Annotated[float | None, _rounded(2)]
Pixels = Annotated[float | None, _rounded(1)]


class _Readable(BaseModel):
    """A part of the record; in a file, an entry that can't be read counts as missing, unless it is required."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    @model_validator(mode="wrap")
    @classmethod
    def _leave_out_unreadable(
        cls,
        data: Any,  # noqa: ANN401  (JSON)
        handler: ModelWrapValidatorHandler[Self],
        info: ValidationInfo,
    ) -> Self:
        try:
            return handler(data)
        except ValidationError as error:
            if not (_is_lenient(info) and isinstance(data, dict)):
                raise
            unreadable = {each["loc"][0] for each in error.errors() if each["loc"]}
            return handler({name: data[name] for name in data if name not in unreadable})


class PartFigures(_Readable):
    """Figures of several pictures together: of all, of one plant, or of one slide.

    Attributes:
        pictures: Number of pictures.
        grains: Labelled grains.
        found: Detected grains.
        count_error: Sum over pictures of the absolute difference of the two, so that one picture's surplus does not
            hide another's lack.
        count_error_percent: The same per 100 labelled grains.
        bias_percent: Detected minus labelled grains, per 100 labelled ones: surplus and lack cancel.
        false: Detected grains that match no label.
        missed: Labelled grains that match no detection.
        confused: Detected grains that match a label of the other class.
        viability_true: Viable of all labelled grains, percent.
        viability_found: Viable of all detected grains, percent.
        viability_error: Detected minus labelled viability, percentage points.
    """

    pictures: Count = None
    grains: Count = None
    found: Count = None
    count_error: Count = None
    count_error_percent: Percent = None
    bias_percent: Percent = None
    false: Count = None
    missed: Count = None
    confused: Count = None
    viability_true: Percent = None
    viability_found: Percent = None
    viability_error: Percent = None

    @property
    def bias(self) -> int | None:
        """Detected minus labelled grains."""
        return None if self.found is None or self.grains is None else self.found - self.grains


class Rate(_Readable):
    """The rate at which grains of one class are called the other, with 95 % bounds.

    Attributes:
        fraction: Part of the grains that were found at all.
        low: Lower bound.
        high: Upper bound.
        events: Grains called the other class.
        grains: Labelled grains of the class that were found at all.
        unit: What was taken as independent of each other.
        units: How many of them had such grains.
    """

    fraction: Fraction = None
    low: Fraction = None
    high: Fraction = None
    events: Count = None
    grains: Count = None
    unit: Literal["group", "picture"] | None = None
    units: Count = None


class AgreementFigures(_Readable):
    """Agreement of found and labelled values (Bland & Altman, Lancet 327:307, 1986), rounded.

    Attributes:
        n: Number of pairs.
        bias: Mean difference.
        limits_of_agreement: The range that holds 95 % of the differences; `None` for fewer than two pairs.
    """

    n: Count = None
    bias: float | None = None
    limits_of_agreement: tuple[float, float] | None = None


class SizeRecall(_Readable):
    """The labelled grains of one size, and those of them that were found.

    Attributes:
        name: Of the size class.
        from_px: Smallest diameter, pixels; the largest is that of the next class.
        grains: Labelled grains.
        found: Those of them found, whatever their class.
    """

    name: str
    from_px: Pixels = None
    grains: Count = None
    found: Count = None


class DiameterError(_Readable):
    """Errors of the diameters of matched grains, percent.

    Attributes:
        median: Median of the signed errors.
        median_absolute: Median of their sizes.
    """

    median: Percent = None
    median_absolute: Percent = None


class MeasuredModel(_Readable):
    """The model that was measured, and the thresholds it was measured at; see `ModelCard`."""

    version: str | None = None
    sha256: str | None = None
    confidence: float | None = None
    merge_iou: float | None = None
    viable_odds: float | None = None


class ModelFigures(_Readable):
    """The figures of one model on labelled pictures.

    Attributes:
        model: The model.
        map50: Box mAP50 by class label; `None` for a class without labelled grains.
        map50_95: Box mAP50-95 by class label.
        overall: All pictures together.
        groups: By group: the plant, the unit by which data are split.
        slides: By slide.
        confusion: Grains by label, then by the model's class.
        called_wrong: The rate at which found grains of a class (by label) are called the other.
        counts_per_picture: Agreement of counts, picture by picture.
        viability_per_slide: Agreement of viability, slide by slide.
        recall_by_size: Found grains among small, typical and large ones.
        diameter_error_percent: Errors of the diameters.
    """

    model: MeasuredModel = MeasuredModel()
    map50: dict[str, Fraction] = {}
    map50_95: dict[str, Fraction] = {}
    overall: PartFigures = PartFigures()
    groups: dict[str, PartFigures] = {}
    slides: dict[str, PartFigures] = {}
    confusion: dict[str, dict[str, int]] = {}
    called_wrong: dict[str, Rate] = {}
    counts_per_picture: AgreementFigures = AgreementFigures()
    viability_per_slide: AgreementFigures = AgreementFigures()
    recall_by_size: tuple[SizeRecall, ...] = ()
    diameter_error_percent: DiameterError = DiameterError()

    @property
    def mean_map50_95(self) -> float | None:
        """Box mAP50-95, the mean over the classes that have labels."""
        known = [value for value in self.map50_95.values() if value is not None]
        return fmean(known) if known else None


class Decision(_Readable):
    """The decision of the gate.

    Attributes:
        promote: Whether the model goes into production without a person deciding.
        reasons: One sentence each: everything that speaks against it, or the figures it passed with.
    """

    promote: bool
    reasons: Texts = ()


class Overlap(_Readable):
    """The pictures, of those that models are judged by, whose plants a model has learnt from.

    Attributes:
        model: Its name.
        pictures: Number of pictures of plants it has learnt from.
        of: Number of all pictures.
        plants: Those plants.
        complete: Whether all that it has learnt from is recorded; see `Lineage`.
    """

    model: str
    pictures: int
    of: int
    plants: tuple[str, ...]
    complete: bool


class Metrics(_Readable):
    """The content of `metrics.json`.

    Attributes:
        split: The split of the dataset on which both models were measured.
        new: Figures of the published model.
        production: Figures of the model that was in production when it was trained, on the same pictures.
        gate: What the gate decided; `None` if it was not asked.
        learnt_from: How far the base and the model in production know these pictures, by `base` and `production`.
        notices: What readers of the figures must know, because of that.
    """

    split: str
    new: ModelFigures = ModelFigures()
    production: ModelFigures = ModelFigures()
    gate: Decision | None = None
    learnt_from: dict[str, Overlap] = {}
    notices: Texts = ()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read the bytes of the file.

        Raises:
            ValueError: If they are no such record; the message says why.
        """
        try:
            return cls.model_validate_json(data, context=_LENIENT)
        except ValidationError as error:
            faults = [" ".join([*map(str, each["loc"]), each["msg"]]) for each in error.errors()]
            raise ValueError("; ".join(faults)) from error

    def to_json(self) -> bytes:
        """Return the bytes of the file; what was not set is left out."""
        content = self.model_dump(mode="json", exclude_unset=True)
        return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
