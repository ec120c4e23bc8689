"""Vector files: inputs and what the specification expects, a file per unit; free of torch."""
