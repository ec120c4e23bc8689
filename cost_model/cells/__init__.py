"""Cell libraries: liberty files, and what each library's cells are used for."""
