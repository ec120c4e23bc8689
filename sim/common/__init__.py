"""Errors, files and command lines, for every package; no arithmetic."""
