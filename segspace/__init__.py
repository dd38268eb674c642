"""Segmentation search spaces, data and ground truth that proxygraph's formulas are made for.

Nothing is imported here: ask for the module (``segspace.transnas101``, ``segspace.streetscenes``).
"""
