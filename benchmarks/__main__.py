"""`python -m benchmarks [NAME ...]`: run all benchmarks, or those named."""

import importlib
import sys

ALL = ("speed", "planning", "memory", "prefect_overhead")

for name in sys.argv[1:] or ALL:
    if name not in ALL:
        sys.exit(f"there is no benchmark '{name}': expected some of {', '.join(ALL)}")
    print(f"== {name}")
    importlib.import_module(f"benchmarks.{name}").run()
