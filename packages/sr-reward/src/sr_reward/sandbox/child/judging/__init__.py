"""Test code runs in a judge, the program it tests beside ``serve``; ``rules`` says what the program may decide."""

# kinds of reports that are no exception's name: the tests cannot run here, whatever the program does; the program is
# gone or broke the protocol
UNFIT, ENDED = "?unfit", "?ended"


def name_of_kind(name: str) -> str:
    """The name of an exception's class, which a program may have chosen, as the kind of a report."""
    return name.lstrip("?") or "Exception"
