"""The one exception for a user's mistake."""


class InputError(ValueError):
    """Invalid input. The message is one line: the argument, or the file and key, what it must be and what it was.

    Commands print the line and exit with code 2. Any other exception is our own bug and keeps its traceback.
    """
