"""The settings by which the requests of a cloud are recorded.

As in `model`, a field's `description` ends the sentence "expected …".
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Tracing(BaseModel):
    """The settings by which all sites of the cloud record requests; see docs/how-to/traces.md.

    Attributes:
        enabled: whether requests are recorded. If false, not even requests that ask for it are recorded.
        sample: the share of the other requests, which do not ask for it, that are recorded, from 0 to 1.
        size_mb: the greatest size of a site's store in megabytes. If it is full, old traces are deleted, fairly between clients.
        endpoint: base URL of a receiver of OTLP over HTTP, to which all spans are sent as well; `/v1/traces` is appended.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    enabled: bool = Field(default=True, description="true or false")
    sample: float = Field(default=0.01, ge=0, le=1, allow_inf_nan=False, description="a number from 0 to 1, such as 0.01")
    size_mb: int = Field(default=64, ge=1, le=100_000, description="an integer from 1 to 100000")
    endpoint: str | None = Field(
        default=None, pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$", description="a URL such as http://127.0.0.1:4318"
    )

    @property
    def options(self) -> dict[str, Any]:
        """Return the settings as plain data, for the processes; empty if nothing is recorded."""
        return {"sample": self.sample, "size_mb": self.size_mb, "endpoint": self.endpoint or ""} if self.enabled else {}
