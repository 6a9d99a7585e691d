from typing import Any


def prepare_demo(*a: Any) -> Any: ...
