//! Which hardware an image knows: the data of `kernel-config/`.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::Error;

/// Which hardware an image knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Everything a rack may hold.
    Server,
    /// Virtual machines: the smallest.
    Virtio,
}

impl Profile {
    /// Its name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Server => "server",
            Profile::Virtio => "virtio",
        }
    }

    /// Its modules, each with the reason why it is there.
    pub(crate) fn modules(self) -> Result<BTreeMap<String, String>, Error> {
        let mut modules = BTreeMap::new();
        gather(self.name(), &mut modules, INCLUDE_DEPTH_MAX)?;
        Ok(modules)
    }
}

impl std::str::FromStr for Profile {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "server" => Ok(Profile::Server),
            "virtio" => Ok(Profile::Virtio),
            other => Err(Error::Profile { name: other.into(), reason: "there is no such profile".into() }),
        }
    }
}

/// Profiles include each other this deep at most, so that a circle is an error and no endless loop.
const INCLUDE_DEPTH_MAX: u32 = 8;

#[derive(Deserialize)]
struct File {
    include: Vec<String>,
    #[serde(flatten)]
    groups: BTreeMap<String, BTreeMap<String, String>>,
}

fn gather(name: &str, into: &mut BTreeMap<String, String>, depth: u32) -> Result<(), Error> {
    let wrong = |reason: String| Error::Profile { name: name.into(), reason };
    let text = match name {
        "server" => include_str!("../../kernel-config/server.toml"),
        "virtio" => include_str!("../../kernel-config/virtio.toml"),
        _ => return Err(wrong("there is no such profile".into())),
    };
    let Some(depth) = depth.checked_sub(1) else { return Err(wrong("profiles include each other in a circle".into())) };
    let file: File = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
    for include in &file.include {
        gather(include, into, depth)?;
    }
    for (module, why) in file.groups.into_values().flatten() {
        if why.trim().is_empty() {
            return Err(wrong(format!("{module} has no reason")));
        }
        into.insert(module, why);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_profile_holds_everything_that_the_small_one_holds() {
        let (server, virtio) = (Profile::Server.modules().unwrap(), Profile::Virtio.modules().unwrap());
        assert!(virtio.contains_key("virtio_blk") && !virtio.contains_key("mpt3sas"));
        assert!(server.contains_key("mpt3sas"));
        assert!(virtio.keys().all(|module| server.contains_key(module)));
    }

    #[test]
    fn names_are_read_as_they_are_printed() {
        for profile in [Profile::Server, Profile::Virtio] {
            assert_eq!(profile.name().parse::<Profile>().unwrap(), profile);
        }
        assert!("desktop".parse::<Profile>().is_err());
    }
}
