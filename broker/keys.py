"""
The broker's private keys, as the worker has them: in an owner-only file, or behind anything that
is a `linkage.sealing.KeyHolder`, such as another process or a device (docs/storage.md).
"""

from __future__ import annotations

from importlib import import_module

from broker.config import Home
from linkage.errors import KeyRefused
from linkage.sealing import Identity, KeyHolder


def key_holder_of(home: Home) -> KeyHolder:
    """
    Return what signs and opens for this broker.

    Raises KeyRefused where the file is missing, garbled or open to others, where the configured
    holder cannot be had, or where the keys are not those of public.json.
    """
    named = home.config.worker.key_holder
    found = _made(named, home) if named else Identity.load(home.identity_file)
    if found.public() != home.public():
        raise KeyRefused(
            "the worker's private keys are not those of public.json, which the studies pin",
            hint="restore this broker's own file of keys, or mend [worker] key_holder",
        )
    return found


def _made(named: str, home: Home) -> KeyHolder:
    module, _, function = named.partition(":")
    try:
        make = getattr(import_module(module), function)
    except (ImportError, AttributeError) as fault:
        raise KeyRefused(
            f"[worker] key_holder {named!r} cannot be loaded ({type(fault).__name__})",
            hint="install it beside the broker; it is module:function",
        ) from None
    holder: KeyHolder = make(home.path)
    return holder
