"""Networks that come with the package, and their names in the configuration."""
