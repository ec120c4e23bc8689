"""Area, power, timing and their sources. Imports nothing: ask for `cost_model.cells.library` and so on."""
