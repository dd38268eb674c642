"""Latency of `rtseg` networks from a table of measured pieces (docs/latency.md).

    from segspace.latency import LatencyTable
    table = LatencyTable.load("table.json")
    table.predict(arch, size=(120, 160), classes=11)  # ms

``clock`` times, ``load`` says whether the machine is quiet, ``runtimes`` runs a module, ``context`` says how
a piece is measured so that the pieces of a network add up, ``table`` keeps and predicts, ``build`` fills a
table and ``check`` compares it with networks it has not seen.
"""

from segspace.latency.table import LatencyTable as LatencyTable
from segspace.latency.table import Record as Record
from segspace.latency.table import Setting as Setting
