"""Building blocks of the units: arithmetic, products, selection, storage, pipelines."""
