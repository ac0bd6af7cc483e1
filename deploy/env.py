"""Make .env for docker compose: .env.example with a secret of its own in each place that needs one.

``python3 deploy/env.py [FILE]`` needs no more than Python. A file that is there keeps all it says;
secrets that it lacks are added.
"""

import os
import re
import secrets
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / ".env.example"

# A name with nothing after its "=" asks for a secret; what is commented out does not.
_SECRET = re.compile(r"^([A-Z_]+)=$", re.M)


def secret() -> str:
    """Return 192 random bits in letters, digits, - and _, which mean nothing in a URL, a shell or a .env."""
    return secrets.token_urlsafe(24)


def filled(existing: str | None, example: str) -> str:
    """Return the text of .env.

    Parameters
    ----------
    existing : str or None
        What it says so far.
    example : str
        The text of .env.example.
    """
    text = example if existing is None else existing
    text = _SECRET.sub(lambda found: f"{found[1]}={secret()}" if found[1] in names(example) else found[0], text)
    there = set(re.findall(r"^([A-Z_]+)=", text, re.M))
    missing = [name for name in names(example) if name not in there]
    if missing:
        text = text.rstrip("\n") + "\n" + "".join(f"{name}={secret()}\n" for name in missing)
    return text


def names(example: str) -> list[str]:
    """Return the names of all secrets."""
    return _SECRET.findall(example)


def main(path: Path) -> str:
    """Write the file, readable by its owner alone; return a line about it."""
    existing = path.read_text(encoding="utf-8") if path.exists() else None
    text = filled(existing, EXAMPLE.read_text(encoding="utf-8"))
    if text == existing:
        return f"{path} has all secrets already; it is left as it is"
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    partial.replace(path)
    return (
        f"{path} {'made' if existing is None else 'completed'}, with secrets of its own; start with: docker compose up"
    )


if __name__ == "__main__":
    sys.stdout.write(f"{main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / '.env')}\n")
