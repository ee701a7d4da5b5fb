"""What all JSON responses share."""

from pydantic import BaseModel, ConfigDict


class Answer(BaseModel):
    """The base of all JSON responses."""

    model_config = ConfigDict(frozen=True)
