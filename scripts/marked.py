"""A generated part of a document, between <!-- NAME --> and <!-- end -->."""

import re
import sys


def update(path, name, text, action):
    """`action` is "" (prints the text), --write or --check; of the script
    `name`, which is what the message tells to run."""
    if action == "":
        print(text, end="")
        return
    with open(path) as file:
        before = file.read()
    marked = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end -->)",
                        re.S)
    if not marked.search(before):
        sys.exit(f"{path} has no place for what {name} makes")
    after = marked.sub(lambda m: m[1] + text + m[2], before)
    if action == "--write":
        with open(path, "w") as file:
            file.write(after)
    elif action == "--check":
        if after != before:
            sys.exit(f"{path} differs from what it is made of; run "
                     f"scripts/{name} --write")
    else:
        sys.exit(f"{name}: unknown argument {action}")
