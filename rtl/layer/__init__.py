"""The engine: an array and the other units around one memory, run by a list of instructions."""
