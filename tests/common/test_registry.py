"""Tables of members that go by name: order, look-up, and what they refuse."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from limbeck.common.registry import Registry
from limbeck.errors import LimbeckError

SHAPES = Registry("shape", ("square", 4), ("circle", 1), ("triangle", 3))


def test_members_are_listed_in_the_order_in_which_they_were_given() -> None:
    assert SHAPES.names == tuple(SHAPES) == ("square", "circle", "triangle")
    assert SHAPES.items() == (("square", 4), ("circle", 1), ("triangle", 3))
    assert len(SHAPES) == 3 and len(Registry("shape")) == 0


def test_a_member_is_had_by_its_name_and_a_name_by_its_member() -> None:
    assert SHAPES["circle"] == 1
    assert "circle" in SHAPES and "hexagon" not in SHAPES and 1 not in SHAPES
    one, other = object(), object()
    objects = Registry("object", ("one", one), ("other", other))
    assert objects.name_of(other) == "other"
    assert objects.name_of(object()) is None


def test_a_member_is_known_by_identity_and_not_by_equality() -> None:
    assert Registry("list", ("first", [1]), ("second", [1])).name_of([1]) is None


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(LimbeckError, match=r"Unknown shape 'circel'; did you mean 'circle'"):
        SHAPES["circel"]


@pytest.mark.parametrize("members", [[("a", 1), ("a", 2)], [("a", 1), ("b", 2), ("a", 1)]])
def test_two_members_of_one_name_are_refused(members: list[tuple[str, int]]) -> None:
    with pytest.raises(LimbeckError, match="The shape 'a' is registered twice; give one of the two another name"):
        Registry("shape", *members)


def test_members_that_know_their_names_make_a_table() -> None:
    ann, bob = SimpleNamespace(name="ann"), SimpleNamespace(name="bob")
    people = Registry.of("person", (ann, bob))
    assert people.items() == (("ann", ann), ("bob", bob)) and people.values() == (ann, bob)
    with pytest.raises(LimbeckError, match="The person 'ann' is registered twice"):
        Registry.of("person", (ann, bob, ann))


@pytest.mark.parametrize("change", ["set", "delete"])
def test_a_table_cannot_be_changed(change: str) -> None:
    with pytest.raises(TypeError):
        if change == "set":
            SHAPES["hexagon"] = 6  # type: ignore[index]
        else:
            del SHAPES["circle"]  # type: ignore[attr-defined]


def test_a_joined_member_stands_last_and_in_the_new_table_only() -> None:
    more = SHAPES.joined("hexagon", 6)
    assert more.names == ("square", "circle", "triangle", "hexagon") and more["hexagon"] == 6
    assert more.family == "shape" and "hexagon" not in SHAPES
    with pytest.raises(LimbeckError, match="The shape 'circle' is registered twice"):
        more.joined("circle", 2)
