"""The work of each stage: one room's product handed to the next, in a folder of the store.

Each module has functions that take the configuration, the paths of finished artifacts and the folder to
fill. They are imported only when there is work: torch and its like take seconds to load.
"""
