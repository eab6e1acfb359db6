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

    def give_up(self):
        """Read-only from here on, for files that are open too, as ext4 is behind a fault of its."""
        done = run("mount", "-o", "remount,abort", self.path)
        assert done.returncode == 0, done.stderr

    def fill(self, leave_kib):
        """A file that takes all room but so much; its path."""
        path = self.path / "filler"
        free = os.statvfs(self.path)
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - leave_kib * 1024)
        return path

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
