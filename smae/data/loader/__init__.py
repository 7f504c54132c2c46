"""From a store to batches of bodies on the device."""
