"""Trust between sites: the sites whose administrators are accepted elsewhere, and the sites that administer a domain or project.

As in `model`, a field's `description` ends the sentence "expected …".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

SiteName = Annotated[str, Field(pattern=r"^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$")]
"""The name of any site, including a site that joined from another machine, which the file does not list."""

Trust = dict[SiteName, Literal["full", "local-admin"]]

_ID = r"^[A-Za-z0-9-]{1,64}$"


class Homed(BaseModel):
    """A domain or a project that is administered at some sites only.

    Attributes:
        domain: the id of a domain, as `openstack domain show` prints it. The rule covers the domain, its users, groups, projects and roles.
        project: the id of a project. The rule covers the project, the projects below it, and the role assignments in them.
        sites: the sites that administer the domain or project. All sites ignore changes of it that other sites write.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    domain: str | None = Field(default=None, pattern=_ID, description="the id of a domain")
    project: str | None = Field(default=None, pattern=_ID, description="the id of a project")
    sites: tuple[SiteName, ...] = Field(strict=False, min_length=1, description="a list of at least one site, such as [paris]")

    @property
    def key(self) -> str:
        """The key of the rule: `domain/ID` or `project/ID`."""
        return f"domain/{self.domain}" if self.domain else f"project/{self.project}"

    @model_validator(mode="after")
    def _check_one(self) -> Homed:
        if (self.domain is None) == (self.project is None):
            text = "expected either `domain` or `project`, such as {domain: 2f0c…, sites: [paris]}"
            raise PydanticCustomError("homed_invalid", "{text}", {"text": text})
        return self


def complaint_of_homed(homed: Iterable[Homed]) -> tuple[int, str] | None:
    """Return the first error in a list of rules, as the index of the rule and the message; `None` if the list is valid."""
    seen: dict[str, int] = {}
    for index, each in enumerate(homed):
        if each.key in seen:
            return index, f"a second entry for {each.key.replace('/', ' ')}: expected one, with all its sites"
        seen[each.key] = index
    return None
