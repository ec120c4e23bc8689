"""Everything that starts a simulator."""
