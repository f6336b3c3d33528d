//! The only door to the kernel: disks, mounts, files, programs.
