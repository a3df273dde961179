"""The receiver of `pollen events`: storage reports uploads, and runs are started for them.

`app` receives notices over HTTP, `sqs` reads them from a queue, and `notices` decodes them. `receiver` classifies them
by the watched `roots` and adds uploads to their `bursts`, which `posting` reports to the Prefect server.
"""
