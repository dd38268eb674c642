"""Formulas as rows of arrays, for compiled code: what a search makes, compares and plans by the million.

`Dag` is what people and files see; a `Forest` holds the same formulas as trees in prefix order.
"""
