"""The process that holds a pod's namespaces: `python -I -S pause.py HOSTNAME NAMESPACE...`.

Run as a program of its own, before any thread exists: it leaves the host's namespaces it is told to leave
(net, ipc, uts, pid), brings the loopback device up, names the host, says "ready" on stdout and becomes
`sleep`, which costs nothing and ends at any signal.

The first process of a new pid namespace is a child, whose pid then stands after "ready". It ignores the ends
of the processes that are left to it, and so the kernel clears them away.
"""

import ctypes
import fcntl
import os
import signal
import socket
import struct
import sys

_FLAGS = {"net": 0x40000000, "ipc": 0x08000000, "uts": 0x04000000, "pid": 0x20000000}
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1


def main(hostname: str, namespaces: list[str]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    flags = sum(_FLAGS[name] for name in namespaces)
    if flags and libc.unshare(flags) != 0:
        error = ctypes.get_errno()
        sys.exit(f"cannot make the pod's namespaces ({', '.join(namespaces)}): {os.strerror(error)}")
    if "net" in namespaces:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            request = fcntl.ioctl(control, _SIOCGIFFLAGS, struct.pack("16sh14x", b"lo", 0))
            up = struct.unpack("16sh14x", request)[1] | _IFF_UP
            fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", up))
    if "uts" in namespaces:
        socket.sethostname(hostname)
    os.chdir("/")
    if "pid" in namespaces:
        if first := os.fork():
            os.write(1, b"ready %d" % first)
            return
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    else:
        os.write(1, b"ready")
    null = os.open("/dev/null", os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    os.execvp("sleep", ["drakit-pause", "infinity"])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
