"""What messages from several places tell people to do."""

from typing import Final

#: What carries out the declarations of ``prefect.yaml``. Never told as a bare command: `prefect deploy`
#: takes the image and the device from every deployment when they are not given again.
DEPLOY: Final = (
    "deploy all as in docs/cluster.md, step 7 (without a cluster: docs/operator.md), with the POLLEN_IMAGE and "
    "POLLEN_DEVICE that runs need: what is not given again is taken away"
)
