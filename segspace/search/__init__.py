"""Training-free search: the best-scored networks within a latency budget (docs/segmenter-search.md).

``python -m segspace.search`` is the command. ``space`` says what a space must offer, ``scoring`` what a
proxy says of a network, ``samplers`` which network is looked at next, ``study`` keeps what is known in a
database that several processes share, ``together`` runs them, ``report`` writes what was found.
"""
