"""The page of a run, and the page that sets several runs side by side: one HTML file each, which loads nothing.

``gather`` and ``compare`` put a page together; each other file makes one part of it, from plain data to HTML.
"""
