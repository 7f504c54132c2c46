"""Export: a store written as one file in a format that other code reads.

An outside package adds a format through the entry-point group ``smae.exports``.
"""
