"""``python -m docs.generate``: write the tables of committed pages anew."""

from docs.generate.tables import write

for page in write():
    print(f"docs/{page}: written")
