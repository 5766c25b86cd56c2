"""How many examples a property is tried with."""

from hypothesis import settings

settings.register_profile("slow")


def examples(number: int) -> int:
    """All of them with ``--hypothesis-profile=slow``, a tenth otherwise."""
    return number if settings.get_current_profile_name() == "slow" else max(20, number // 10)
