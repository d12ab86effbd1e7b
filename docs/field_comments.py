"""Show the trailing comment of a field as its description in the API pages, so that fields need no second text."""

from __future__ import annotations

import re
from typing import Any

import griffe


class FieldComments(griffe.Extension):
    """Give each attribute without a docstring the comment at the end of its line."""

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_: Any) -> None:
        if attr.docstring is None and attr.endlineno:
            lines = attr.lines_collection[attr.filepath]
            comment = re.search(r"  # (?!noqa|type:)(.+)$", lines[attr.endlineno - 1])
            if comment:
                attr.docstring = griffe.Docstring(comment[1], lineno=attr.endlineno, parent=attr)
