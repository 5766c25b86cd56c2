"""The work of each stage: it connects the scientific packages and fills a folder of the store.

Each module has functions that take the stage's settings, the folders of finished artifacts and the folder to
fill. They are imported only when there is work to do, because torch and similar libraries take seconds to load.
"""
