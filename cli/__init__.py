"""The command line (imported as ``smae_cli``): parse, one call of a function of ``smae``, print."""
