"""Area, power and timing of units, with their sources. Import submodules, such as `cost_model.cells.library`."""
