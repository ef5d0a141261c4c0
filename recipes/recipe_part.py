"""The base class of every part of a recipe."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

# In a cluster, names of what serves a version and a base, and of what an installation consists of.
RESERVED = re.compile(
    r".*--v[0-9]+-[0-9a-f]{8}|base--[0-9a-f]{8}-[0-9a-f]{6}|fineline-(?:api|mlflow)|prune|reaper|recover|retrain"
)


def _not_reserved(name: str) -> str:
    if RESERVED.fullmatch(name):
        raise ValueError(f"{name} is a name that Fineline gives to objects in a cluster; choose another one")
    return name


Name = Annotated[str, Field(pattern=r"^[a-z]([a-z0-9-]{0,48}[a-z0-9])?$")]
ModelName = Annotated[Name, AfterValidator(_not_reserved)]


class RecipePart(BaseModel):
    """A part of the recipe. Unknown keys are refused, and so are infinities and NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
