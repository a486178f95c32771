"""The compiled and the interpreted build of the core, side by side in one process."""
