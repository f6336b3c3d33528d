//! Network cards of a virtual machine.

/// A TCP port of the host that leads into the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// Port on 127.0.0.1 of the host.
    pub host: u16,
    /// Port in the guest.
    pub guest: u16,
}

/// A network card on QEMU's user network: the guest is 10.0.2.15 by DHCP, the host is 10.0.2.2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Net {
    /// Its permanent address.
    pub mac: String,
    /// QEMU's name of the model, such as `virtio-net-pci` or `e1000`.
    pub model: String,
    /// Ports that lead into the guest.
    pub forwards: Vec<Forward>,
}

impl Net {
    /// A virtio card on the user network.
    pub fn user(mac: impl Into<String>) -> Self {
        Net { mac: mac.into(), model: "virtio-net-pci".into(), forwards: Vec::new() }
    }

    /// Takes another model.
    #[must_use]
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.model = model.into();
        self
    }

    /// Leads a port of the host into the guest.
    #[must_use]
    pub fn forward(mut self, host: u16, guest: u16) -> Self {
        self.forwards.push(Forward { host, guest });
        self
    }

    /// The arguments of QEMU for card number `index`, whose QMP name is `nic<index>`.
    pub(crate) fn arguments(&self, index: usize) -> Vec<String> {
        let mut netdev = format!("user,id=net{index}");
        for forward in &self.forwards {
            netdev.push_str(&format!(",hostfwd=tcp:127.0.0.1:{}-:{}", forward.host, forward.guest));
        }
        // No boot ROM: waiting for a network boot that nobody asked for costs half a minute.
        let device = format!("{},id=nic{index},netdev=net{index},mac={},romfile=", self.model, self.mac);
        vec!["-netdev".into(), netdev, "-device".into(), device]
    }
}
