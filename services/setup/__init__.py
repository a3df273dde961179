"""`pollen setup`: make a Prefect server what the site file says, and change nothing the second time.

Each module plans one kind of object and returns steps (`services.setup.plan.Step`): the present state, the
change, and how to make it. Planning writes nothing, so a plan can be shown before it is carried out.
"""
