"""Server connections: opened, asked, cancelled, replaced, closed."""
