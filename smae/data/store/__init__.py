"""The store: written atomically, checked when read."""
