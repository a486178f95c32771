"""Mixed work for a long time: memory stays flat, and no client waits without cause."""
