"""Pages of the documentation that are made from the code; `hook` adds them when the site is built."""
