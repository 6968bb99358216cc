"""How a source is to be read where it does not say so itself, as in ``mine.npz,channels=last``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Literal, Self, TypeAlias, final, get_args

from limbeck.errors import LimbeckError, unknown

Kind: TypeAlias = Literal["images", "table", "series"]
Channels: TypeAlias = Literal["first", "last"]

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
CHANNEL_AXES: Final[tuple[Channels, ...]] = get_args(Channels)


@final
@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a person says of a source; None where nothing was said.

    Attributes:
        channels: which axis of an image, or of a series of several values, is the channels.
        kind: what the examples are: images, rows of a table, or series.
        image: the column that the images are in.
        label: the column that the labels are in.
        limit: examples to read at most, the first ones.
        size: pixels along the sides to which pictures are brought while they are read.

    Raises:
        LimbeckError: on construction, for a value that is none of these.
    """

    channels: Channels | None = None
    kind: Kind | None = None
    image: str | None = None
    label: str | None = None
    limit: int | None = None
    size: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if self.channels is not None and self.channels not in CHANNEL_AXES:
            raise unknown("place of the channels", str(self.channels), CHANNEL_AXES)
        if self.kind is not None and self.kind not in KINDS:
            raise unknown("kind of data", str(self.kind), KINDS)
        if self.limit is not None and (not isinstance(self.limit, int) or self.limit is True or self.limit < 1):
            raise LimbeckError(f"The limit on examples is {self.limit!r}; it must be a whole number of at least 1.")

    def __str__(self) -> str:
        """As options follow a name: ``,channels=last,limit=100``; nothing for nothing."""
        return "".join(f",{name}={getattr(self, name)}" for name in OPTIONS if getattr(self, name) is not None)

    def beyond(self, other: Self) -> Self:
        """What this says and another does not."""
        return replace(self, **{name: None for name in OPTIONS if getattr(other, name) is not None})

    def joined(self, other: Self, base: str) -> Self:
        """This and what another says.

        Raises:
            LimbeckError: the two contradict each other; ``base`` names the source.
        """
        said = {}
        for name in OPTIONS:
            ours, theirs = getattr(self, name), getattr(other, name)
            if None not in (ours, theirs) and ours != theirs:
                raise LimbeckError(f"The data '{base}' is given with {name}={ours} and {name}={theirs}; say one.")
            said[name] = theirs if ours is None else ours
        return replace(self, **said)


OPTIONS: Final = tuple(field.name for field in fields(Reading) if field.name != "size")  # size changes images, too


def take_reading(options: Mapping[str, Any]) -> tuple[Reading, dict[str, Any]]:
    """What options say of reading, and the other options in their order.

    >>> take_reading({"label": 5, "invert": True, "channels": 3})
    (Reading(channels=None, kind=None, image=None, label='5', limit=None, size=None), {'invert': True, 'channels': 3})
    """
    mine = {name: value for name, value in options.items() if name in OPTIONS}
    if not isinstance(mine.get("channels", ""), str):  # channels=3, three equal ones, is a change
        del mine["channels"]
    texts = {name: str(value) for name, value in mine.items() if name in ("image", "label")}
    return Reading(**mine | texts), {name: value for name, value in options.items() if name not in mine}
