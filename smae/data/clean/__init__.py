"""From a Recording to a Clip: which bodies are actors, where they stand, how many frames."""
