"""The texts that a teacher looks for: one or several per class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ookd import limits
from ookd.errors import UserError


@dataclass(frozen=True, slots=True)
class Prompts:
    """Texts, and the classes that they stand for."""

    texts: tuple[str, ...]
    labels: tuple[int, ...]  # the class of each text
    names: tuple[str, ...]  # of the classes

    @classmethod
    def parse(cls, given: Sequence[str]) -> Prompts:
        """From words like "person" and "forklift=vehicle", with the class name after the sign."""
        texts, names = [], []
        for word in given:
            text, _, name = (part.strip() for part in word.partition("="))
            name = text if "=" not in word else name
            if not text or not name or not (text + name).isprintable():
                raise UserError(f'--text "{word}": write what to look for, as "person" or "forklift=vehicle"')
            if (fault := limits.CLASS_NAME.exceeded(max(len(text), len(name)))) is not None:
                raise UserError(f"--text: {fault}")
            if text in texts:
                raise UserError(f'--text "{text}": is given twice')
            texts.append(text)
            names.append(name)
        classes = tuple(dict.fromkeys(names))
        return cls(tuple(texts), tuple(classes.index(name) for name in names), classes)

    def as_dict(self) -> dict[str, str]:
        """Text -> class."""
        return {text: self.names[label] for text, label in zip(self.texts, self.labels, strict=True)}
