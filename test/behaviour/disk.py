"""disk - an ext4 of its own, in a file, whose power can be cut.

    disk = Disk("test"); disk.mount()       root only; cannot() says why it is not to be had
    disk.cut_power()                        from here on nothing more reaches the disk, not even
                                            the file system's own journal; writers get EIO
    disk.unmount(); disk.mount()            as behind a power cut: what was flushed is there
    disk.remove()                           nothing is left behind
"""

import fcntl
import os
import subprocess

import harness

EXT4_IOC_SHUTDOWN = 0x8004587D
NOLOGFLUSH = 2


def run(*command):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True,
                          check=False)


class Disk:
    def __init__(self, prefix, mib=48):
        if os.geteuid() != 0:
            harness.cannot("a disk of its own needs root (mount -o loop)")
        self.temp = harness.Temp(prefix)
        self.image = self.temp.path / "image"
        self.path = self.temp.path / "disk"
        self.path.mkdir()
        with self.image.open("wb") as file:
            file.truncate(mib << 20)
        self.done_or_cannot(harness.program("mkfs.ext4"), "-q", self.image)

    def done_or_cannot(self, *command):
        done = run(*command)
        if done.returncode != 0:
            self.remove()
            harness.cannot(f"a disk of its own cannot be made here: {done.stderr.strip()}")

    def mount(self):
        self.done_or_cannot("mount", "-o", "loop", self.image, self.path)

    def remount(self, mode):
        """`mode`: "ro" or "rw"; open files of a disk that becomes read-only fail to write."""
        done = run("mount", "-o", f"remount,{mode}", self.path)
        assert done.returncode == 0, done.stderr

    def unmount(self):
        """Nobody may have a file open."""
        done = run("umount", self.path)
        assert done.returncode == 0, done.stderr

    def cut_power(self):
        fd = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, NOLOGFLUSH.to_bytes(4, "little"))
        finally:
            os.close(fd)

    def remove(self):
        run("umount", "-l", self.path)
        self.temp.remove()
