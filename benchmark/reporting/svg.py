"""Drawings made part of a page whose content policy forbids styles that it does not know. Imports no torch."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from ..core.errors import FlexbenchError

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
LEFT_OUT = {"metadata", "style", "script", "foreignObject", "title"}  # the page has a title and styles of its own
# What matplotlib says in a <style> of its drawings, as attributes that everything in them inherits.
DEFAULTS = {"stroke-linejoin": "round", "stroke-linecap": "butt"}
FONT = re.compile(r"(?:(?P<style>italic|oblique)\s+)?(?:(?P<weight>bold|\d00)\s+)?(?P<size>[\d.]+px)\s+(?P<family>.+)")


def inline(text: str, prefix: str, label: str) -> str:
    """An SVG document as an element for a page, to be put there unescaped.

    Styles become attributes, ids get a prefix, so that several drawings can share a page, and what could run or load
    something is dropped. Raises FlexbenchError for text that is no SVG document.
    """
    try:
        root = ET.fromstring(text)
    except ET.ParseError as error:
        raise FlexbenchError(f"a figure is not an SVG document: {error}.") from error
    if root.tag != f"{{{SVG}}}svg":
        raise FlexbenchError(f"a figure is not an SVG document but <{root.tag}>.")
    for element in root.iter():
        _clean(element, prefix)
    for name, value in {**DEFAULTS, "role": "img", "aria-label": label}.items():
        root.attrib.setdefault(name, value)
    ET.register_namespace("", SVG)
    ET.register_namespace("xlink", XLINK)
    return ET.tostring(root, encoding="unicode")


def _clean(element: ET.Element, prefix: str) -> None:
    """Drop children that do not belong, and rewrite the attributes."""
    for child in [c for c in element if _name(c.tag) in LEFT_OUT or not str(c.tag).startswith(f"{{{SVG}}}")]:
        element.remove(child)
    given = dict(element.attrib)
    style = given.pop("style", "")
    element.attrib.clear()
    for key, value in {**given, **dict(_declarations(style))}.items():
        if not _name(key).lower().startswith("on") and not _leads_away(key, value):
            element.set(key, _prefixed(key, value, prefix))


def _name(tag: object) -> str:
    return str(tag).rpartition("}")[2]


def _declarations(style: str):
    """(attribute, value) of a style; the shorthand for fonts is taken apart, since it is no attribute."""
    for part in filter(str.strip, style.split(";")):
        key, _, value = (word.strip() for word in part.partition(":"))
        if key == "font" and (found := FONT.fullmatch(value)):
            yield from ((f"font-{name}", text) for name, text in found.groupdict().items() if text)
        elif key != "font":
            yield key, value


def _leads_away(key: str, value: str) -> bool:
    """A reference to anything but the drawing itself or a picture inside it."""
    return (_name(key) == "href" and not value.startswith(("#", "data:image/"))) or "url(" in value.replace("url(#", "")


def _prefixed(key: str, value: str, prefix: str) -> str:
    """An id, or a reference to one, with the prefix."""
    if key == "id":
        return prefix + value
    if _name(key) == "href" and value.startswith("#"):
        return f"#{prefix}{value[1:]}"
    return value.replace("url(#", f"url(#{prefix}")
