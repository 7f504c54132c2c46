"""The command line (imported as ``smae_cli``): parse, one call of a function of ``smae``, print."""

try:
    import smae as smae
except ImportError as error:
    # On Windows: one line, before anything else fails.
    raise SystemExit(f"smae: {error}") from None
