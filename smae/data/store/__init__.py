"""The store on disk: written atomically, checked when read."""
