"""Networks included in the package, and their names in the configuration."""
