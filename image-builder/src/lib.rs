//! Builds the boot image: initramfs, ISO.
