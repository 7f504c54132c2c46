"""The command line (imported as ``smae_cli``): parse, one ``smae.api`` call, print."""
