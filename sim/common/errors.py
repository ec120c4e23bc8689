"""The one exception for a user's mistake."""


class InputError(ValueError):
    """Bad input: one line that names the argument, or the file and key, what it must be and what it was.

    Commands print the line and exit with 2; anything else that is raised is our own bug and keeps its traceback.
    """
