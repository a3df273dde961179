"""Check `prefect.yaml` and the job templates: Prefect silently ignores what it does not know.

A misspelt key makes a deployment without its schedule, a misspelt job variable a run without its GPU,
and a key to the storage in a job variable is stored on the server for everyone to read. `make lint`
finds these errors before they are deployed: `python -m tools.deployment_lint`.
"""
