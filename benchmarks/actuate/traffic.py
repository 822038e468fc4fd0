"""TCP as fast as it goes, from one network namespace to another; run in each of them, it needs nothing installed.

traffic.py quiet INTERFACE       leave no packet for a device to check or cut, as a switch in user space needs
traffic.py receive PORT          take one connection; print seconds and bytes so far, some times a second
traffic.py send ADDRESS PORT     send until killed
"""

import ctypes
import fcntl
import socket
import struct
import sys
import time

SIOCETHTOOL = 0x8946
SETTERS = {"tx": 0x17, "sg": 0x19, "tso": 0x1F, "gso": 0x24, "gro": 0x2C}
"""What `ethtool -K` turns off, by the numbers of linux/ethtool.h."""
FRAME_PER_PAYLOAD = (1500 + 14) / (1500 - 40 - 12)
"""Full packets of an MTU of 1500, with TCP's time stamps: what HTB counts of each, over what the receiver does."""
REPORT_S = 0.1


def quiet(interface: str) -> None:
    """Turn off everything that makes a packet of a link another one than on a wire."""
    with socket.socket() as any_socket:
        for number in SETTERS.values():
            value = ctypes.create_string_buffer(struct.pack("II", number, 0))
            request = struct.pack("16sP16x", interface.encode(), ctypes.addressof(value))
            fcntl.ioctl(any_socket, SIOCETHTOOL, request)


def receive(port: int) -> None:
    """Take one connection and count."""
    with socket.create_server(("", port)) as server:
        print("ready", flush=True)
        connection, _ = server.accept()
    total, next_s = 0, 0.0
    with connection:
        while data := connection.recv(1 << 16):
            total += len(data)
            if (now_s := time.monotonic()) >= next_s:
                print(now_s, total, flush=True)
                next_s = now_s + REPORT_S


def send(address: str, port: int) -> None:
    """Send without end."""
    data = bytes(1 << 16)
    with socket.create_connection((address, port), timeout=60) as connection:
        while True:
            connection.sendall(data)


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    if what == "quiet":
        quiet(arguments[0])
    elif what == "receive":
        receive(int(arguments[0]))
    else:
        send(arguments[0], int(arguments[1]))
