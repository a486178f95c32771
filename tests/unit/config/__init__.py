"""Tests of pglido.config."""
