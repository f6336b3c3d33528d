//! What a running node says of itself. Two of them are compared.

use std::time::Duration;

use crate::{Error, Guest};

/// It reads every file, under translation, on cores that others may keep busy.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(900);

/// What differs between two moments of a running node, and so between the node and its restored self. The file that
/// configures the network is looked at by itself; sockets are made by whoever listens, and not captured; the restore places the fallback
/// loader that the UEFI node has not, and a scenario starts from it.
const LIVE_PATHS: &str = "-path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /var/tmp \
                          -o -path /var/log -o -path /var/cache -o -path /var/lib/systemd -o -path /root/rerack \
                          -o -path /root/rerack-node -o -path /etc/resolv.conf -o -path /etc/systemd/network -o -path /boot/efi/EFI/BOOT -o -type s";

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Portrait {
    host_name: String,
    machine_id: String,
    state: String,
    failed_units: String,
    block_ids: String,
    mounts: String,
    /// The file that the plan adapts to another network card, with `mac` standing for the card's address.
    network: String,
    /// Of every path: type, mode, owner, times, size, links, target. As a checksum.
    paths: String,
    /// Extended attributes and ACLs, flags of inodes, device numbers. As checksums.
    attributes: String,
    /// Content of every file. As a checksum.
    contents: String,
}

impl Portrait {
    /// Asks a node whose network card has this address.
    pub(super) fn take(guest: &mut Guest<'_>, mac: &str, network_file: &str) -> Result<Self, Error> {
        let mut ask = |command: &str| guest.run(command, COMMAND_TIMEOUT).map(|output| output.text);
        ask(&format!(
            "paths() {{ find $(findmnt -rno TARGET -t ext4,xfs,vfat) -xdev \\( {LIVE_PATHS} \\) -prune -o \"$@\"; }}"
        ))?;
        Ok(Self {
            host_name: ask("hostname")?,
            machine_id: ask("cat /etc/machine-id")?,
            state: ask("systemctl is-system-running")?,
            failed_units: ask("systemctl --failed --no-legend --plain")?,
            block_ids: ask("blkid -o export | grep -E '^(UUID|LABEL|PARTUUID|TYPE)=' | sort")?,
            mounts: ask(
                "findmnt -rno TARGET,FSTYPE,OPTIONS -t ext4,xfs,vfat | sort; swapon --noheadings --show=TYPE,SIZE",
            )?,
            network: ask(&format!("sed s/{mac}/mac/ {network_file}"))?,
            // A directory's size and links are the filesystem's own affair.
            paths: ask(
                "paths -type d -path '/boot/efi*' -printf '%p %y %m\\n' -o -type d -printf '%p %y %m %U %G %T@\\n' -o -printf '%p %y %m %U %G %s %T@ %n %l\\n' \
                 | sort | sha256sum",
            )?,
            // The flag I says that a directory has an index, which only its filesystem decides.
            attributes: ask(
                "paths -print0 | sort -z | xargs -0 getfattr -hd -m - -e hex --absolute-names 2> /dev/null | sha256sum; \
                 paths \\( -type d -o -type f \\) -print0 | sort -z | xargs -0 lsattr -d 2> /dev/null \
                 | awk '{ gsub(\"I\", \"-\", $1); print }' | sha256sum; \
                 paths \\( -type b -o -type c \\) -print0 | sort -z | xargs -0 stat -c '%n %t %T' | sha256sum",
            )?,
            contents: ask("paths -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum")?,
        })
    }

    /// `running` or `degraded`, as systemd calls the whole of it.
    pub(super) fn state(&self) -> &str {
        &self.state
    }

    /// An error that shows both, if they differ.
    pub(super) fn compare(&self, after: &Self) -> Result<(), Error> {
        if self == after {
            return Ok(());
        }
        Err(Error::Unexpected(format!("the node is not what it was:\nbefore: {self:#?}\nafter: {after:#?}")))
    }
}
