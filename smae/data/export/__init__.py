"""Exports: a store written in a form that other people's code reads; each form is one registered exporter.

An outside package adds one through the entry-point group ``smae.exports``.
"""
