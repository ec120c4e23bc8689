"""What every package uses: errors, files, caches, command lines, text tables. No arithmetic."""
