"""Simulation: the integer specification (`sim.reference`) and everything that is checked against it.

Nothing is imported eagerly, so that `import sim.reference` stays free of torch and of the simulators.
"""
