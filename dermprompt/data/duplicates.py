"""stub until merge"""


def load_clusters(path):
    return []
