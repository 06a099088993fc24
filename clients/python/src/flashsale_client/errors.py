"""What this package raises itself; everything else is the driver's."""

import psycopg


class OutcomeUnknown(Exception):
    """The connection was lost during the call, which may have been carried out or not.

    The driver's error is the `__cause__`. A purchase with a key can be made again with that key.
    A purchase without one may have left a reservation, which expires by itself.
    """


class Overloaded(Exception):
    """The gatherer's queue is full: nothing was bought. The shop sells more slowly than it is asked."""


class Closed(Exception):
    """The gatherer is closing or was not opened: nothing was bought."""


# The server ends the connection or does not take a new one now, or cannot say what it did.
_LOST = {"57P01", "57P02", "57P03", "57P04", "57P05", "40003"}


def connection_lost(error: psycopg.Error) -> bool:
    """Whether the answer to a call got lost, or whether there is no connection to ask it over."""
    if error.sqlstate is None:
        return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
    return error.sqlstate.startswith("08") or error.sqlstate in _LOST


def rolled_back(error: Exception) -> bool:
    """Whether the cause passes by itself, and the call surely changed nothing: a conflict between
    transactions, or too little of something, such as connections."""
    return _class(error) in {"40", "53"}


def about_one_request(error: Exception) -> bool:
    """Whether one of several requests may have caused the error: with a wrong argument, or because
    of a constraint or a trigger of the shop's."""
    return _class(error) in {"22", "23", "P0"}


def _class(error: Exception) -> str | None:
    state = error.sqlstate if isinstance(error, psycopg.Error) else None
    return state and state[:2]
