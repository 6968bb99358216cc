"""Families of interchangeable members, each known by a name: one line adds a member."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, Protocol, TypeVar, final

from limbeck.errors import LimbeckError, unknown

Member = TypeVar("Member")


class Named(Protocol):
    """What knows its own name."""

    @property
    def name(self) -> str:
        """By which it goes in a table."""


NamedMember = TypeVar("NamedMember", bound=Named)


@final
class Registry(Generic[Member]):
    """An immutable, ordered table of the members of a family.

    >>> shapes = Registry("shape", ("circle", 1), ("square", 4))
    >>> shapes.names
    ('circle', 'square')
    >>> shapes["square"]
    4
    >>> shapes.joined("hexagon", 6).names
    ('circle', 'square', 'hexagon')

    Args:
        family: what a member is called in an error, such as "adjoint".
        members: name and member each, in the order in which they are listed and asked.

    Raises:
        LimbeckError: two members of one name.
    """

    def __init__(self, family: str, *members: tuple[str, Member]) -> None:
        self.family = family
        self._members: dict[str, Member] = {}
        for name, member in members:
            if name in self._members:
                raise LimbeckError(f"The {family} '{name}' is registered twice; give one of the two another name.")
            self._members[name] = member

    @staticmethod
    def of(family: str, members: Iterable[NamedMember]) -> Registry[NamedMember]:
        """The table of members that know their own names; raises LimbeckError for two of one name."""
        return Registry(family, *((member.name, member) for member in members))

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in order."""
        return tuple(self._members)

    def __getitem__(self, name: str) -> Member:
        """A member by name; raises LimbeckError for an unknown one, with the nearest that is known."""
        if not isinstance(name, str) or name not in self._members:
            raise unknown(self.family, str(name), self._members)
        return self._members[name]

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def items(self) -> tuple[tuple[str, Member], ...]:
        """Names and members, in order."""
        return tuple(self._members.items())

    def values(self) -> tuple[Member, ...]:
        """The members, in order."""
        return tuple(self._members.values())

    def name_of(self, member: Member) -> str | None:
        """The name under which a member stands here, or None."""
        return next((name for name, known in self._members.items() if known is member), None)

    def joined(self, name: str, member: Member) -> Registry[Member]:
        """The same table with one more member at its end."""
        return Registry(self.family, *self._members.items(), (name, member))
