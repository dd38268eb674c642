"""One meaning, one spelling: the canonical form.

Bottom-up, every operator is rebuilt by a constructor that knows its algebra: sums collect like terms,
products collect like factors, reductions let out what is constant within a group, and everything else goes
through the table in ``proxygraph.rules`` until no rule applies. The result depends on the meaning of the
parts only, so that many spellings meet in one key. No rewrite changes the axis of a part: ``w - w`` is one
zero per element, ``0`` is not, so it stays as written.

Read in this order: ``nodes`` (parts under construction), ``rewrite`` (the rule table), ``sums``,
``products``, ``functions``, ``reductions``, ``build`` (which constructor belongs to which operator, and the
way in).
"""

from proxygraph.canon.build import Canonicaliser, canonical

__all__ = ["Canonicaliser", "canonical"]
