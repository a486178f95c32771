"""Say which builds run."""

from parity.builds import header


def pytest_report_header() -> str:
    """One line of pytest's header."""
    return header()
