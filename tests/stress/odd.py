"""What strangers hand in: odd values, sound documents with something odd in them, bytes with some changed."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st

ODD_NUMBERS = st.sampled_from(
    [
        *(0, 1, -1, 2, 3, 7, 1.5, -0.0, 255, 256, 65536, 2**31 - 1, 2**31, 2**32, 2**53, 2**63, 10**30),
        *(1e-320, 1e300, -1e300, float("nan"), float("inf"), -float("inf")),
    ]
)
ODD_TEXTS = st.sampled_from(
    [
        *(
            "",
            " ",
            ".",
            "..",
            "/",
            "../../x",
            "/etc/passwd",
            "/dev/zero",
            "a/00000.png",
            "no.mp4/3",
            "x.zip/y",
        ),
        *(
            "\0",
            "\ud800",
            "\x1b[31m",
            "<script>",
            "é",
            "²",
            "n" * 300,
            "n" * 70000,
            "a\nb",
            "%s",
            "{0}",
            "${HOME}",
        ),
        *("~", "1" * 5000, "1e999", "nan", "0x_", "2024-13-40", "cpu", "meta", "null", "*", "?", "["),
        "a" + "/a" * 2000,
    ]
)


def json_values(
    numbers: st.SearchStrategy[Any], texts: st.SearchStrategy[str], keys: st.SearchStrategy[str]
) -> st.SearchStrategy[Any]:
    """Small values as JSON holds them, with odd numbers and texts among them."""
    return st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | numbers | texts,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
        max_leaves=8,
    )


KEYS = st.sampled_from(["id", "size", "counts", "family", "kind", "base"]) | st.text(max_size=3)
DEEP = st.integers(1, 2000).map(lambda depth: json.loads("[" * min(depth, 900) + "]" * min(depth, 900)))
VALUES = json_values(ODD_NUMBERS, ODD_TEXTS, KEYS) | DEEP


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, inner in items for place in ((value, key), *places(inner))]


@st.composite
def documents(draw: st.DrawFn, sound: Any) -> Any:
    """The document with up to four places changed, doubled or removed."""
    document = copy.deepcopy(sound)
    for _ in range(draw(st.integers(1, 4))):
        if not (found := places(document)):
            break
        container, key = draw(st.sampled_from(found))
        match draw(st.sampled_from(["change", "change", "remove", "double", "swap"])):
            case "change":
                container[key] = draw(VALUES)
            case "remove":
                del container[key]
            case "double" if isinstance(container, list):
                container.extend([container[key]] * draw(st.sampled_from([1, 2, 50])))
            case "double":
                container[draw(KEYS)] = container[key]
            case _:
                other, place = draw(st.sampled_from(found))
                if place in other if isinstance(other, dict) else place < len(other):
                    container[key] = copy.deepcopy(other[place])
    return document


@st.composite
def texts(draw: st.DrawFn, sound: Any) -> bytes:
    """Such a document as JSON, now and then damaged as a text as well."""
    try:
        text = json.dumps(draw(documents(sound)), ensure_ascii=draw(st.booleans())).encode(
            "utf-8", "surrogatepass"
        )
    except (ValueError, RecursionError):  # refers to itself, or has a number that is too long
        text = json.dumps(sound).encode()
    return draw(damaged(text)) if draw(st.integers(0, 9)) == 0 else text


@st.composite
def damaged(draw: st.DrawFn, sound: bytes) -> bytes:
    """The bytes with some of them changed, cut, doubled, or taken from elsewhere."""
    content = bytearray(sound)
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 5, 30]))):
        if not content:
            break
        # headers decide more than bodies
        most = draw(st.sampled_from([min(64, len(content)), min(600, len(content)), len(content)]))
        at = draw(st.integers(0, most - 1))
        match draw(st.sampled_from(["flip", "set", "set", "number", "cut", "insert", "zero", "move"])):
            case "flip":
                content[at] ^= 1 << draw(st.integers(0, 7))
            case "set":
                content[at] = draw(st.sampled_from([0, 1, 127, 128, 254, 255]) | st.integers(0, 255))
            case "number":
                size = draw(st.sampled_from([2, 4, 8]))
                value = draw(st.sampled_from([0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63]))
                order = draw(st.sampled_from(["big", "little"]))
                content[at : at + size] = (value % 256**size).to_bytes(size, order)
            case "cut":
                del content[at : at + draw(st.sampled_from([1, 4, 100, len(content)]))]
            case "insert":
                content[at:at] = draw(st.binary(max_size=20))
            case "zero":
                length = draw(st.sampled_from([4, 64, 1000]))
                content[at : at + length] = bytes(len(content[at : at + length]))
            case _:
                start = draw(st.integers(0, len(content) - 1))
                content[at : at + 40] = content[start : start + 40]
    return bytes(content)
