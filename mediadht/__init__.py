"""mediadht: a DHT that maps Matrix media hashes and room IDs to the servers that have them."""

__version__ = "0.1.0"
__all__ = ["__version__"]
