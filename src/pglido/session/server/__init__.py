"""One server's answers: whose each is, and which statements the server has."""
