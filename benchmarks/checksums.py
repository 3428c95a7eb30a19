"""CPU seconds a gigabyte of the two checksums that receipts hold, with and without the processor's instructions for sha256.

    python benchmarks/checksums.py

Both in pieces of 1 MiB, in a process of its own each time. OpenSSL is told to leave the instructions alone by its OPENSSL_ia32cap, which
processors other than x86 do not have: there, both lines are the same.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time

from cvdm_core.files import checksum

PIECES = 1000
WITHOUT = {"OPENSSL_ia32cap": ":~0x20000000"}  # bit 29 of EBX of CPUID leaf 7: the SHA extensions


def measure() -> None:
    piece = os.urandom(1 << 20)
    for name, take in (("sha256", lambda: hashlib.sha256(piece).hexdigest()), ("BLAKE3", lambda: checksum(piece))):
        begin = time.process_time()
        for _ in range(PIECES):
            take()
        print(f"{name:8} {(time.process_time() - begin) / (PIECES * len(piece) / 1e9):5.2f} CPU-s a GB", flush=True)


if __name__ == "__main__":
    if sys.argv[1:]:
        measure()
    else:
        for title, settings in (("as the processor is", {}), ("without its SHA instructions", WITHOUT)):
            print(f"{title}:", flush=True)
            subprocess.run([sys.executable, __file__, "measure"], env={**os.environ, **settings}, check=True)
