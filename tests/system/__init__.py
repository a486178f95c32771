"""Tests of running poolers in front of real PostgreSQL servers, named by promise."""
