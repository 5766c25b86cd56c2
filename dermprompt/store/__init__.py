"""Finished work by content: what is hashed into a key (artifacts), locks between processes, claims on batches."""
