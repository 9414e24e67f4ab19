"""How much memory a gateway keeps of what it has used: mallopt(3) and malloc_trim(3) of glibc; elsewhere nothing happens."""

import ctypes
import gc
from contextlib import suppress

_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_BIG_BYTES = 128 * 1024


def steady() -> None:
    """Before any thread: big blocks go back to the system when they are freed, for as long as the process lives, and all threads share
    one heap.

    glibc raises its own limit of what is big with each such block, and then puts them into the heap. Python's table of interned names is
    one of 1.9 MB, made anew every few days as names come and go: the heap grew by that, again and again.
    """
    with suppress(AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _BIG_BYTES)
        libc.mallopt(_M_ARENA_MAX, 1)


def trim() -> None:
    """Give back what starting took: where Python's bytecode is not cached, 6 MB that were needed to compile."""
    gc.collect()
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
