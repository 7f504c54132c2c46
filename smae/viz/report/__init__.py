"""The page of a run, and the page that compares several runs: one self-contained HTML file each.

``run_report`` and ``compare`` assemble a page from the parts that the other modules make.
"""
