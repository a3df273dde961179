"""The name of a cluster's GPU resource: in a manifest it is a key, which no job variable can fill in."""

from typing import Any

VARIABLE = "gpu_resource"
COUNT = "gpu_count"


def with_gpu_resource(template: dict[str, Any], name: str) -> dict[str, Any]:
    """Request another kind of GPU in a job template, such as a slice of one (`nvidia.com/mig-1g.10gb`).

    Afterwards the variable accepts only this name: the server refuses a run that requests another kind.

    Args:
        template: Base job template with the variable; changed in place.
        name: Name of the resource, as `kubectl describe node` shows it.

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
    """Return whether a job template supports GPUs but requests none."""
    variable = template["variables"].get("properties", {}).get(COUNT)
    return variable is not None and variable.get("default") == 0
