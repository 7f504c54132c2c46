"""Functions that have not moved yet."""
