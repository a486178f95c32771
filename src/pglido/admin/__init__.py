"""The console: commands and SHOW, for drivers that speak PostgreSQL's protocol."""
