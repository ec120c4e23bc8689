"""A point of a network's design space as one folder for a hardware team."""
