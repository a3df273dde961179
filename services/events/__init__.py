"""`pollen events`: stores tell of uploads, and the runs that follow are started.

``notices`` reads what stores send, ``sns`` and ``sqs`` are the ways of Amazon's services to it.
"""
