"""Recipes: TOML files that hold differences from the defaults only."""
