"""What this package raises itself; everything else is the driver's."""

import psycopg


class OutcomeUnknown(Exception):
    """The connection was lost, or the server ended the call, or there was no answer in time: the
    call may have been carried out or not.

    The driver's error is the `__cause__`. A purchase with a key can be made again with that key.
    A purchase without one may have left a reservation, which expires by itself.
    """


class Overloaded(Exception):
    """The gatherer's queue is full: nothing was bought. The shop sells more slowly than it is asked."""


class Closed(Exception):
    """The gatherer is closing or was not opened: nothing was bought."""


# The server ends the connection or does not take a new one now, or cannot say what it did.
_LOST = {"57P01", "57P02", "57P03", "57P04", "57P05", "40003"}
# The server ended the call, as for `statement_timeout`.
_CANCELLED = "57014"
# How the SQLSTATEs of errors begin that are about the session, its privileges, or the state or the
# limits of the server. Not XX000: as that arrives a SQLSTATE of the shop's own.
_OF_ALL = (
    *("08", "0A", "25", "28", "3D", "3F", "40", "42", "53", "54", "55", "57", "58", "F0"),
    *("XX001", "XX002"),
)


def connection_lost(error: psycopg.Error) -> bool:
    """Whether the answer to a call got lost, or whether there is no connection to ask it over."""
    if error.sqlstate is None:
        return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
    return error.sqlstate.startswith("08") or error.sqlstate in _LOST


def may_be_made(error: psycopg.Error) -> bool:
    """Whether a single call that got this error may have been carried out nevertheless. Under the
    strategy `grouped` the seller may make what its caller waits for no longer."""
    return connection_lost(error) or error.sqlstate == _CANCELLED


def cancelled(error: psycopg.Error) -> bool:
    """Whether the server ended the call. A batch was rolled back then."""
    return error.sqlstate == _CANCELLED


def rolled_back(error: psycopg.Error) -> bool:
    """Whether the cause passes by itself, and the call surely changed nothing: a conflict between
    transactions, or too little of something, such as memory."""
    return not connection_lost(error) and (error.sqlstate or "").startswith(("40", "53"))


def about_one_request(error: psycopg.Error) -> bool:
    """Whether one of several requests may have caused the error: with a wrong argument, or because
    of a constraint or a trigger of the shop's, whatever SQLSTATE that raises."""
    return error.sqlstate is not None and not error.sqlstate.startswith(_OF_ALL)
