"""A network-boot and anonymous-file appliance."""

__version__ = "0.1.0"
