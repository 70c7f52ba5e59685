"""Text from outside, such as a file or a server, made safe to print."""


def printable(text, limit=200):
    r"""Return text as one bounded line without anything that acts on a terminal.

    Ordinary text is unchanged. Characters that Python does not call printable (control
    characters and terminal escapes, line breaks, marks that reverse the direction of
    text, invisible ones, halves of surrogate pairs) become escapes such as `\x1b`.

    Args:
        text: str of any length.
        limit: int. Only so many of its characters are shown; the length follows. Each
            takes at most ten characters once escaped.

    Returns:
        str.

    Example:
    >>> printable("cat\n\x1b[2J100 %")
    'cat\\n\\x1b[2J100 %'
    >>> printable("aaaaaaaaaa", limit=3)
    'aaa... (10 characters)'
    """
    if len(text) <= limit and text.isprintable():
        return text
    shown = "".join(
        character
        if character.isprintable()
        else character.encode("unicode_escape").decode()
        for character in text[:limit]
    )
    return shown if len(text) <= limit else f"{shown}... ({len(text)} characters)"
