"""The tokens of a source one after another, and what is said where another one was expected.

Source: the recovery of the reference's parser, as far as it shows in its errors.
"""

from __future__ import annotations

from typing import NoReturn

from drakit.cel.repair import may_follow
from drakit.cel.source import Issue, compile_error
from drakit.cel.token import Token, tokenize


class Cursor:
    """Where in the tokens of `source` the parser is; `issues` are errors it could go on after."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.issues: list[Issue] = []
        self.tokens = tokenize(source, self.issues)
        self.index = 0

    @property
    def token(self) -> Token:
        return self.tokens[self.index]

    def text(self, token: Token) -> str:
        return self.source[token[2] : token[3]] or "<EOF>"

    def at(self, text: str) -> bool:
        token = self.tokens[self.index]
        return token[1] == text and token[0] == "op"

    def accept(self, text: str) -> Token | None:
        token = self.tokens[self.index]
        if token[1] == text and token[0] == "op":
            self.index += 1
            return token
        return None

    def need(self, text: str) -> Token:
        token = self.tokens[self.index]
        if token[1] != text or token[0] != "op":
            return self.repaired(text)
        self.index += 1
        return token

    def repaired(self, text: str) -> Token:
        """Goes on where `text` is missing as the reference's parser does: without the token in its place, if
        `text` comes next, or as if it were there, if what is there may follow it."""
        token = self.token
        following = self.tokens[min(self.index + 1, len(self.tokens) - 1)]
        if following[0] == "op" and following[1] == text:
            self.issues.append(
                (token[2], f"Syntax error: extraneous input '{self.text(token)}' expecting '{text}'")
            )
            self.index += 2
            return following
        if may_follow(token, self.tokens[: self.index], text):
            self.issues.append((token[2], f"Syntax error: missing '{text}' at '{self.text(token)}'"))
            return token
        self.fail(token[2], f"Syntax error: mismatched input '{self.text(token)}' expecting '{text}'")

    def close(self, text: str) -> None:
        """The end of a list or map behind an element, where a comma could be as well."""
        if self.accept(text):
            return
        token = self.token
        following = self.tokens[min(self.index + 1, len(self.tokens) - 1)]
        expected = f"input '{self.text(token)}' expecting {{'{text}', ','}}"
        if following[0] == "op" and following[1] == text:
            self.issues.append((token[2], f"Syntax error: extraneous {expected}"))
            self.index += 2
            return
        self.fail(token[2], f"Syntax error: mismatched {expected}")

    def fail(self, position: int, message: str) -> NoReturn:
        raise compile_error(self.source, [*self.issues, (position, message)])

    def end(self) -> int:
        """Where the last token read ended."""
        return self.tokens[self.index - 1][3]
