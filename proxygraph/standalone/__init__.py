"""What a generated ``formula.py`` is made of: statistics of one network on full tensors, with torch alone.

``proxygraph.source_parts`` copies from these files, and from what they import of ``proxygraph.stats``, what a
formula needs: whole functions, and of a class the methods that are used. Hence only torch, the standard
library and plain functions here. What the statistics mean is defined in ``proxygraph.stats``, which these
files are tested against; they are written to be read in one piece, not for speed.
"""
