"""A control process with fake workers, for each test that asks for it."""

from harness.control import fake_mode, it

__all__ = ["fake_mode", "it"]
