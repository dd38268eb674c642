"""The exceptions of the caller's mistakes.

Every message names the input, the reason and, where there is one, the remedy. What we believe to be
impossible is an ``assert`` instead.
"""


class ProxyGraphError(Exception):
    """Base of every error that a caller can cause."""


class InvalidDag(ProxyGraphError):
    """A graph breaks a rule of typing, arity, order or shape."""


class ParseError(ProxyGraphError):
    """A text (formula, architecture, file) cannot be read; the message says where."""


class UnknownName(ProxyGraphError):
    """An operator, leaf, problem, objective or baseline of that name does not exist."""


class ShapeMismatch(ProxyGraphError):
    """Two arrays that belong together have different lengths."""


class CompileError(ProxyGraphError):
    """A backend cannot compile this program."""


class BackendUnavailable(ProxyGraphError):
    """A backend or optional package is not installed or has no device."""


class ConfigError(ProxyGraphError):
    """A setting, a data file or an output folder cannot be used."""


class StorageError(ProxyGraphError):
    """A file cannot be written; what was there before is still there."""
