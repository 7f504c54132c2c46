"""From the bytes of a `.skeleton` file to a Recording."""
