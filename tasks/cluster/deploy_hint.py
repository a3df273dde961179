"""The advice to deploy, which several messages give."""

from typing import Final

#: How to carry out the declarations of `prefect.yaml`. Never a bare command: `prefect deploy` takes
#: the image and the device from every deployment if they are not given again.
DEPLOY: Final = (
    "deploy all as in docs/cluster.md, step 7 (without a cluster: docs/operator.md), with the POLLEN_IMAGE and "
    "POLLEN_DEVICE that runs need: a deploy removes what is not given again"
)
