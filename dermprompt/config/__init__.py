"""Configuration: every key with its type, constraint and allow-list (schema, generators), and its checks."""
