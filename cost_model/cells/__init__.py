"""Cell libraries: Liberty files, and the areas, energies and delays of cells."""
