"""Sources of raw data: find samples, read them, parse them."""
