"""The search for the smallest hardware that is accurate enough: units, and networks with their hardware."""
