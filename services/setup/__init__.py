"""`pollen setup`: makes a Prefect server what the site file says, and changes nothing the second time.

Each module looks at one kind of object and returns steps (:class:`services.setup.plan.Step`): what is
there, what would be changed, and how. Looking writes nothing, so a plan can be shown before it is done.
"""
