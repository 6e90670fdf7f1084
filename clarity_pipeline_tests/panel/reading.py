"""What a page says, for tests: its elements by id, as a person would read them."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Final

_VOID: Final = frozenset({"input", "img", "meta", "link", "br", "hr"})

_INLINE: Final = frozenset({"a", "b", "code", "small", "span", "strong", "time"})


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[tuple[str, str | None]] = []
        self.texts: dict[str, list[str]] = {}
        self.attributes: dict[str, dict[str, str]] = {}
        self.everything: list[dict[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.everything.append(attributes | {"tag": tag})
        identity = attributes.get("id")
        if identity is not None:
            assert identity not in self.attributes, f"two elements have the id {identity}"
            self.attributes[identity] = attributes
            self.texts[identity] = []
        if tag not in _VOID:
            self.open.append((tag, identity))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        opened, _ = self.open.pop()
        assert opened == tag, f"<{opened}> is closed by </{tag}>"
        if tag not in _INLINE:
            self.handle_data(" ")

    def handle_data(self, data: str) -> None:
        for _, identity in self.open:
            if identity is not None:
                self.texts[identity].append(data)


class Page:
    """A page whose elements are well nested and whose ids are unique; else it cannot be read."""

    def __init__(self, html: str) -> None:
        self._reader = _Reader()
        self._reader.feed(html)
        assert not self._reader.open, f"never closed: {self._reader.open}"

    def __contains__(self, identity: str) -> bool:
        return identity in self._reader.texts

    def text(self, identity: str) -> str:
        """The words in an element, with single blanks between them."""
        return re.sub(r"\s+", " ", "".join(self._reader.texts[identity])).strip()

    def attributes(self, identity: str) -> dict[str, str]:
        return self._reader.attributes[identity]

    def with_attribute(self, name: str) -> list[dict[str, str]]:
        """The attributes of every element that has this one, in the order of the page."""
        return [each for each in self._reader.everything if name in each]
