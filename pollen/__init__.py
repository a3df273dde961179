"""The counting science of Pollen Viability Flows: pure functions, no Prefect, no S3."""

__version__ = "0.1.0"
