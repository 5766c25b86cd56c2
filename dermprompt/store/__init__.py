"""Content-addressed storage of finished work: artifacts and their keys, locks between processes, claims on batches."""
