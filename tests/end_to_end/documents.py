"""Fenced blocks, headings and links of a Markdown document."""

import os
import re
import typing

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))


class Block(typing.NamedTuple):
    line: int  # of its first line of text
    info: str  # what follows the opening fence
    text: str


def read(name):
    with open(os.path.join(ROOT, name)) as file:
        return file.read()


def blocks(text):
    """All fenced blocks, in order."""
    found, begun, fence, body = [], None, "", []
    for number, line in enumerate(text.split("\n"), 1):
        match = re.match(r"\s*(```+|~~~+)\s*(.*?)\s*$", line)
        if begun is None:
            if match:
                begun, fence, body = (number + 1, match[2]), match[1], []
        elif match and match[1] == fence and not match[2]:
            found.append(Block(*begun, "\n".join(body) + "\n"))
            begun = None
        else:
            body.append(line)
    if begun is not None:
        raise ValueError(f"the block at line {begun[0]} has no end")
    return found


def prose(text):
    """The text without its fenced blocks."""
    return re.sub(r"^(```+|~~~+).*?^\1\s*$", "", text,
                  flags=re.MULTILINE | re.DOTALL)


def anchors(text):
    """Of headings, as GitHub makes them."""
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
            for heading in re.findall(r"^#+ (.+)$", prose(text),
                                      re.MULTILINE)}


def broken_links(name):
    """Links of a document of the repository that lead nowhere in it."""
    text = read(name)
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(text)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = os.path.normpath(os.path.join(os.path.dirname(name), path)
                                  if path else name)
        if not os.path.exists(os.path.join(ROOT, target)) or (
                anchor and anchor not in anchors(read(target))):
            broken.append(link)
    return broken
