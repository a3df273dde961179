"""What a GPU is called on a cluster: in a manifest it is a key, which no job variable can fill in."""

from typing import Any

VARIABLE = "gpu_resource"
COUNT = "gpu_count"


def with_gpu_resource(template: dict[str, Any], name: str) -> dict[str, Any]:
    """Count another kind of GPU in a job template, such as slices of one (``nvidia.com/mig-1g.10gb``).

    Afterwards the variable accepts this name only: a run that asks for another kind is refused by the
    server instead of getting this one.

    Args:
        template: A base job template with the variable; changed in place.
        name: Of the resource, as `kubectl describe node` shows it.

    Returns:
        The template.
    """
    variable = template["variables"]["properties"][VARIABLE]
    pod = template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    for container in pod["containers"]:
        limits = container["resources"]["limits"]
        limits[name] = limits.pop(variable["default"])
    variable["default"] = name
    variable["enum"] = [name]
    return template


def has_no_gpus(template: dict[str, Any]) -> bool:
    """Whether runs of a job template could have GPUs and are to have none."""
    variable = template["variables"].get("properties", {}).get(COUNT)
    return variable is not None and variable.get("default") == 0
