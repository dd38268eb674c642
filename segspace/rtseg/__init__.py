"""Real-time segmentation networks: a search space like FasterSeg's and the supernet that shares its weights.

In the order of the data flow: ``arch`` (text <-> `Arch`), ``blocks`` (torch modules, each written once),
``pieces`` (a block at fixed channels and sizes), ``program`` (an arch as a line of pieces), ``space``
(sampling, neighbours, count), ``network`` (program -> module) and ``supernet``. Nothing is imported here: ask
for the module.
"""
