"""Package ``conf``, which lies beside the package, as ``dermprompt.conf``; all else is said in pyproject.toml."""

from setuptools import find_namespace_packages, setup

setup(
    packages=[
        *find_namespace_packages(include=["dermprompt*"], exclude=["*__pycache__*"]),
        "dermprompt.conf",
        *(f"dermprompt.conf.{group}" for group in find_namespace_packages("conf")),
    ],
    package_dir={"dermprompt.conf": "conf"},
)
