"""Area, power, timing and their sources. Imports nothing: ask for `cost_model.library` and so on."""
