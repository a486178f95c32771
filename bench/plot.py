"""placeholder"""

from .results import Results


def draw(results: Results) -> str:
    return ""
