"""The caller of the command line."""

from tests.cli.conftest import call

__all__ = ["call"]
