//! What the kernel command line asks of the restore environment.

use std::fmt;
use std::net::Ipv4Addr;

use linux_io::net::BondMode;

use crate::ip::{IP_FORMS, IpArgument};
use crate::words::{Word, is_like_code, is_secret};

/// All settings. Anything not given is decided later, by the engine or a person.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Arguments {
    /// `rerack.server=`: bundle servers.
    pub servers: Vec<String>,
    /// `rerack.fingerprint=`: pin of the repository's root key, 64 lower-case hexadecimal digits.
    pub fingerprint: Option<String>,
    /// `rerack.node=`.
    pub node: Option<String>,
    /// `rerack.snapshot=`.
    pub snapshot: Option<String>,
    /// `rerack.code=`.
    pub code: Option<RestoreCode>,
    /// `rerack.unattended`.
    pub unattended: bool,
    /// `rerack.erase=`: `identity`, `blank` or `plan:DIGEST`.
    pub erase: Option<String>,
    /// `rerack.after=`: `reboot`, `poweroff` or `wait`.
    pub after: Option<String>,
    /// `rerack.refused=`: `reboot`, `poweroff` or `wait`.
    pub refused: Option<String>,
    /// `rerack.shell`.
    pub shell: bool,
    /// `console=`, without options, each once.
    pub consoles: Vec<String>,
    /// How to reach a network.
    pub network: NetworkArguments,
}

/// How to reach a network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetworkArguments {
    /// `ip=`; DHCP on all interfaces if there is none.
    pub ip: Vec<IpArgument>,
    /// `rerack.nic=`: only these, by name or hardware address.
    pub nics: Vec<String>,
    /// `rerack.vlan=`: everything happens in this VLAN.
    pub vlan: Option<u16>,
    /// `rerack.bond=`: everything happens on this bond.
    pub bond: Option<BondArgument>,
    /// `rerack.dns=`: name servers, before those that DHCP names.
    pub dns: Vec<Ipv4Addr>,
}

/// `rerack.bond=NIC,NIC` or `rerack.bond=NIC,NIC/active-backup`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BondArgument {
    /// Members, by name or hardware address.
    pub members: Vec<String>,
    /// How they share.
    pub mode: BondMode,
}

/// A one-use restore code. It prints as `[secret]`.
#[derive(Clone, PartialEq, Eq)]
pub struct RestoreCode(String);

impl RestoreCode {
    /// The code itself, for the engine's settings and nothing else.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RestoreCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// An argument that is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentError {
    /// No such argument exists.
    #[error("unknown argument {name}")]
    Unknown {
        /// As given.
        name: String,
        /// One that is spelt alike.
        near: Option<&'static str>,
    },
    /// The value does not fit.
    #[error("{name}={value} is not understood; it takes {expected}")]
    Value {
        /// The argument.
        name: String,
        /// Its value, unless it is secret.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
}

impl ArgumentError {
    /// What to do about it, for operators.
    pub fn hint(&self) -> String {
        match self {
            Self::Unknown { near: Some(near), .. } => format!("did you mean {near}?"),
            _ => "change the kernel arguments in the boot menu, the PXE configuration or the image".into(),
        }
    }
}

const KNOWN: [&str; 16] = [
    "rerack.server",
    "rerack.fingerprint",
    "rerack.node",
    "rerack.snapshot",
    "rerack.code",
    "rerack.unattended",
    "rerack.erase",
    "rerack.after",
    "rerack.refused",
    "rerack.shell",
    "rerack.vlan",
    "rerack.bond",
    "rerack.dns",
    "rerack.nic",
    "ip",
    "console",
];

/// Whether an argument is named as ours are, and there is none of that name.
pub(crate) fn is_unknown(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    (name == "rerack" || name.starts_with("rerack.")) && !KNOWN.contains(&name.as_str())
}

/// The longest value of free form.
const VALUE_CHARS_MAX: usize = 255;

impl Arguments {
    /// Reads words; later ones replace earlier ones, so that the command line goes after an image's defaults. All
    /// errors are found, not only the first. Words of others are passed over.
    pub fn read(words: impl IntoIterator<Item = Word>) -> (Self, Vec<ArgumentError>) {
        let mut arguments = Self::default();
        let mut errors = Vec::new();
        for word in words {
            if let Err(error) = arguments.take(&word) {
                errors.push(error);
            }
        }
        (arguments, errors)
    }

    fn take(&mut self, word: &Word) -> Result<(), ArgumentError> {
        let name = word.name.as_str();
        let value = word.value.as_deref();
        let wrong = |expected: &'static str| ArgumentError::Value {
            name: name.to_owned(),
            value: match value {
                Some(value) if is_secret(name) || is_like_code(value) => "[secret]".to_owned(),
                value => value.unwrap_or_default().to_owned(),
            },
            expected,
        };
        let text = |expected| value.filter(|value| is_plain(value)).map(str::to_owned).ok_or_else(|| wrong(expected));
        let one_of = |options: &[&str], expected| {
            value.filter(|value| options.contains(value)).map(str::to_owned).ok_or_else(|| wrong(expected))
        };
        let switch = || match value {
            None | Some("1" | "yes") => Ok(true),
            Some("0" | "no") => Ok(false),
            _ => Err(wrong("no value, `yes` or `no`")),
        };
        match name {
            "rerack.server" => {
                let servers = value.unwrap_or_default().split(',').map(str::to_owned).collect::<Vec<_>>();
                if !servers.iter().all(|server| is_server(server)) {
                    return Err(wrong("https://HOST[:PORT], several of them joined by commas"));
                }
                self.servers = servers;
            }
            "rerack.fingerprint" => {
                let pin = value.unwrap_or_default().to_ascii_lowercase();
                if !is_digest(&pin) {
                    return Err(wrong("64 hexadecimal digits"));
                }
                self.fingerprint = Some(pin);
            }
            "rerack.node" => self.node = Some(text("a node's name")?),
            "rerack.snapshot" => self.snapshot = Some(text("`latest`, a snapshot's id or a time")?),
            "rerack.code" => {
                let code = text("five groups of four characters joined by `-`")?;
                let characters = code.chars().filter(|c| *c != '-');
                if !characters.clone().all(|c| c.is_ascii_alphanumeric()) || characters.count() != 20 {
                    return Err(wrong("five groups of four characters joined by `-`"));
                }
                self.code = Some(RestoreCode(code));
            }
            "rerack.unattended" => self.unattended = switch()?,
            "rerack.erase" => {
                const FORMS: &str = "`identity`, `blank` or `plan:DIGEST`";
                let erase = text(FORMS)?.to_ascii_lowercase();
                let digest = erase.strip_prefix("plan:");
                if !matches!(erase.as_str(), "identity" | "blank") && !digest.is_some_and(is_digest) {
                    return Err(wrong(FORMS));
                }
                self.erase = Some(erase);
            }
            "rerack.after" => {
                self.after = Some(one_of(&["reboot", "poweroff", "wait"], "`reboot`, `poweroff` or `wait`")?);
            }
            "rerack.refused" => {
                self.refused = Some(one_of(&["reboot", "poweroff", "wait"], "`reboot`, `poweroff` or `wait`")?);
            }
            "rerack.shell" => self.shell = switch()?,
            "rerack.vlan" => {
                let id = value.and_then(|value| value.parse().ok()).filter(|id| (1..=4094).contains(id));
                self.network.vlan = Some(id.ok_or_else(|| wrong("a number from 1 to 4094"))?);
            }
            "rerack.bond" => {
                let bond = value.and_then(bond_of);
                self.network.bond =
                    Some(bond.ok_or_else(|| wrong("NIC,NIC or NIC,NIC/active-backup, by name or hardware address"))?);
            }
            "rerack.dns" => {
                let dns: Option<Vec<_>> = value.unwrap_or_default().split(',').map(|dns| dns.parse().ok()).collect();
                self.network.dns = dns.ok_or_else(|| wrong("IPv4 addresses joined by commas"))?;
            }
            "rerack.nic" => {
                let nics = value.and_then(nics_of);
                self.network.nics = nics.ok_or_else(|| wrong("interfaces by name or hardware address"))?;
            }
            "ip" => {
                let ip = value.and_then(IpArgument::parse).ok_or_else(|| wrong(IP_FORMS))?;
                self.network.ip.push(ip);
            }
            "console" => {
                let console = value.unwrap_or_default().split(',').next().unwrap_or_default();
                if !console.is_empty() && !self.consoles.iter().any(|known| known == console) {
                    self.consoles.push(console.to_owned());
                }
            }
            _ if name == "rerack" || name.starts_with("rerack.") => {
                return Err(ArgumentError::Unknown { name: name.to_owned(), near: nearest(name) });
            }
            _ => {}
        }
        Ok(())
    }
}

fn is_plain(value: &str) -> bool {
    !value.is_empty() && value.len() <= VALUE_CHARS_MAX && value.chars().all(|c| !c.is_control())
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_server(url: &str) -> bool {
    let Some(host) = url.strip_prefix("https://") else { return false };
    let host = host.strip_suffix('/').unwrap_or(host);
    let (host, port) = match host.rsplit_once(':') {
        // An IPv6 address in brackets holds colons itself.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (host, None),
    };
    let named = host.chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c));
    let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let literal = literal.is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok());
    is_plain(host) && (named || literal) && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn nics_of(value: &str) -> Option<Vec<String>> {
    let nics: Vec<String> = value.split(',').map(str::to_owned).collect();
    let fits = |nic: &String| {
        !nic.is_empty() && nic.len() <= 17 && nic.chars().all(|c| c.is_ascii_alphanumeric() || ":._-".contains(c))
    };
    nics.iter().all(fits).then_some(nics)
}

fn bond_of(value: &str) -> Option<BondArgument> {
    let (members, mode) = match value.split_once('/') {
        None => (value, BondMode::Lacp),
        Some((members, "lacp" | "802.3ad")) => (members, BondMode::Lacp),
        Some((members, "active-backup")) => (members, BondMode::ActiveBackup),
        Some(_) => return None,
    };
    Some(BondArgument { members: nics_of(members)?, mode })
}

/// The known argument that shares the most letters with `name`, if it is most of them.
fn nearest(name: &str) -> Option<&'static str> {
    let alike = |known: &str| {
        let front = name.bytes().zip(known.bytes()).take_while(|(a, b)| a == b).count();
        let back = name.bytes().rev().zip(known.bytes().rev()).take_while(|(a, b)| a == b).count();
        (front + back).min(known.len())
    };
    let best = KNOWN.into_iter().filter(|known| known.starts_with("rerack.")).max_by_key(|known| alike(known))?;
    (alike(best) + 3 >= best.len().max(name.len()) && alike(best) > "rerack.".len() + 1).then_some(best)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::words::split;

    fn read(line: &str) -> (Arguments, Vec<ArgumentError>) {
        Arguments::read(split(line))
    }

    #[test]
    fn every_argument_is_understood() {
        let pin = "ab".repeat(32);
        let (arguments, errors) = read(&format!(
            "BOOT_IMAGE=/vmlinuz console=tty0 console=ttyS0,115200n8 console=ttyS0 quiet \
             rerack.server=https://10.0.2.2:8443,https://[2001:db8::1] rerack.fingerprint={pin} rerack.node=web-03 \
             rerack.snapshot=\"2026-11-20 12:00\" rerack.code=ABCD-EFGH-JKMN-PQRS-TVWX rerack.unattended \
             rerack.erase=plan:{pin} rerack.after=wait rerack.refused=poweroff rerack.shell=no rerack.vlan=42 rerack.bond=eth0,eth1 \
             rerack.dns=10.0.2.3 rerack.nic=52:54:00:00:00:01 ip=eth0:dhcp"
        ));
        assert_eq!(errors, []);
        insta::assert_debug_snapshot!(arguments);
    }

    #[test]
    fn later_words_replace_an_images_defaults() {
        let (arguments, _) = read("rerack.node=default rerack.shell rerack.node=web rerack.shell=no");
        assert_eq!((arguments.node.as_deref(), arguments.shell), (Some("web"), false));
    }

    #[test]
    fn everything_wrong_is_told_at_once_and_no_code_is_shown() {
        let (_, errors) = read(
            "rerack.sever=https://a rerack.server=http://a rerack.server=https://a/b rerack.fingerprint=12 \
             rerack.code=ABCD-SECRET rerack.unattended=maybe rerack.erase=all rerack.erase rerack.after=halt rerack.refused=never \
             rerack.vlan=4095 rerack.bond=eth0/team rerack.dns=dns.example rerack.nic= ip=192.0.2.1 rerack \
             rerack.wipe rerack.node= other.thing=1",
        );
        let told: Vec<String> = errors.iter().map(|error| format!("{error}\n  hint: {}", error.hint())).collect();
        assert!(!told.iter().any(|told| told.contains("SECRET")));
        insta::assert_snapshot!(told.join("\n"));
    }

    #[test]
    fn a_code_does_not_print() {
        let (arguments, errors) = read("rerack.code=ABCD-EFGH-JKMN-PQRS-TVWX");
        assert_eq!(errors, []);
        assert!(!format!("{arguments:?}").contains("EFGH"));
        assert_eq!(arguments.code.unwrap().reveal(), "ABCD-EFGH-JKMN-PQRS-TVWX");
    }

    proptest! {
        #[test]
        fn any_line_is_borne_and_nothing_of_ours_is_passed_over(line in "[ -~]{0,120}", name in "[a-z]{1,12}") {
            read(&line);
            let full = format!("rerack.{name}");
            let (_, errors) = read(&full);
            prop_assert_eq!(errors.is_empty(), ["rerack.unattended", "rerack.shell"].contains(&full.as_str()));
        }

        #[test]
        fn any_value_is_borne(at in 0..KNOWN.len(), value in "[ -~]{0,60}") {
            read(&format!("{}=\"{value}\"", KNOWN[at]));
        }
    }
}
