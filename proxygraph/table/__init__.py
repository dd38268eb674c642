"""Statistics of many networks, or a plain table, as one value (`StatTable`) and one file."""

from proxygraph.table.stat_table import FORMAT, VERSION, StatTable

__all__ = ["FORMAT", "VERSION", "StatTable"]
