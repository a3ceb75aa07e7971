"""Families: plain functions, each registered with a card that states its facts once.

The command line, column names, glossary, README tables and parametrised tests read the cards, so nothing about a
member is written down twice.  Members from other packages are named by import path (``package.module:function``)
in the plan; importing the module is what registers nothing and runs only code that the user named.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from gradaudit.errors import InputError, in_words

Member = TypeVar("Member", bound=Callable[..., Any])


@dataclass(frozen=True)
class Card:
    """What a reader must know of a family member; empty text where a field does not apply."""

    name: str
    label: str
    summary: str
    source: str
    formula: str = ""
    unit: str = ""
    range: str = ""
    direction: str = ""
    needs: str = ""
    cost: str = ""
    caveat: str = ""


class Family(Generic[Member]):
    """An ordered set of functions with cards; membership is explicit, through the decorator ``register``."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._members: dict[str, Member] = {}
        self._cards: dict[str, Card] = {}

    def register(self, **facts: str) -> Callable[[Member], Member]:
        """Decorator: add a function under ``name=`` (default: its own name) with the card ``facts``."""

        def add(function: Member) -> Member:
            name = facts.pop("name", function.__name__)
            if name in self._members:
                raise ValueError(f"{self.title}: {name!r} is registered twice")
            self._members[name] = function
            self._cards[name] = Card(name=name, **facts)
            return function

        return add

    def get(self, name: str) -> Member:
        """The member called ``name``, or the function at the import path ``package.module:function``."""
        if name in self._members:
            return self._members[name]
        if ":" in name:
            return self._imported(name)
        raise InputError(f"{self.title}: no member {name!r}; there are {', '.join(self._members)}")

    def card(self, name: str) -> Card:
        if name in self._cards:
            return self._cards[name]
        return Card(name=name, label=name, summary="named by import path in the plan", source=name)

    def names(self) -> tuple[str, ...]:
        return tuple(self._members)

    def cards(self) -> tuple[Card, ...]:
        return tuple(self._cards.values())

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def _imported(self, path: str) -> Member:
        module_name, _, attribute = path.partition(":")
        try:
            member: Member = getattr(importlib.import_module(module_name), attribute)
            return member
        except (Exception, SystemExit) as error:  # the module is the user's: it may do anything when it is imported
            raise InputError(f"{self.title}: {path!r} cannot be imported: {in_words(error)}") from error
