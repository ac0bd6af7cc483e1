"""The live page: its routes, who may come in, and the files that a browser gets."""
