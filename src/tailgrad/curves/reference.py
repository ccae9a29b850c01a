"""The reference policy of a KL divergence, and whether two are the same."""

from __future__ import annotations

from typing import NamedTuple


class Reference(NamedTuple):
    """The reference policy that a KL divergence is to.

    Attributes:
        name: Its name.
        content: A hash of its files, or its revision on the hub; None where unknown.
    """

    name: str
    content: str | None

    def same_as(self, other: Reference | None) -> bool:
        """Whether two are the same policy: by content where both have a hash, else by name."""
        if other is None:
            return False
        if self.content is None or other.content is None:
            return self.name == other.name
        return self.content == other.content
