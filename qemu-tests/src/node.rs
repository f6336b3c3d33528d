//! A prepared node: a disk that boots Debian, cached by its recipe.

use std::path::PathBuf;

use crate::{Disk, Error, Lab, Net, NodeRecipe, VmBuilder};

mod build;
mod layout;

/// A node that can be switched on.
#[derive(Debug, Clone)]
pub struct Node {
    /// What it is made of.
    pub recipe: NodeRecipe,
    dir: PathBuf,
}

/// A private copy of a node's disk.
#[derive(Debug, Clone)]
pub struct NodeDisk {
    /// The image file.
    pub path: PathBuf,
    /// The UEFI variables of the machine it was in, for a node that starts by UEFI.
    pub variables: Option<PathBuf>,
}

impl Node {
    /// The node of this recipe, from the cache or built now (about two minutes; needs root and Debian's mirrors).
    pub fn prepare(lab: &Lab, recipe: NodeRecipe) -> Result<Self, Error> {
        let dir = lab.cached(&recipe.cache_key(), |dir| {
            build::build(lab, &recipe, &dir.join(DISK_FILE), &dir.join(VARIABLES_FILE))
        })?;
        Ok(Node { recipe, dir })
    }

    /// The pristine image: copy it, do not start it.
    pub fn image(&self) -> PathBuf {
        self.dir.join(DISK_FILE)
    }

    /// A private copy of the disk (and of the UEFI variables), named after the machine that will use it.
    pub fn copy_disk(&self, lab: &Lab, name: &str) -> Result<NodeDisk, Error> {
        let path = lab.copy_disk(&self.image(), &format!("{name}.img"))?;
        let variables = match self.recipe.uefi {
            true => Some(lab.copy_disk(&self.dir.join(VARIABLES_FILE), &format!("{name}.own.fd"))?),
            false => None,
        };
        Ok(NodeDisk { path, variables })
    }

    /// The machine that this node lives on, with the given disk: its own serial number, MAC and firmware strings.
    pub fn machine(&self, lab: &Lab, name: &str, disk: &NodeDisk) -> VmBuilder {
        let mut vm = lab.vm(name);
        if let Some(variables) = &disk.variables {
            vm = vm.ovmf_vars(variables);
        }
        vm.firmware(self.recipe.firmware())
            .memory_mib(768)
            .smbios(&self.recipe.system_uuid, &self.recipe.system_serial)
            .disk(Disk::new(&disk.path).serial(&self.recipe.disk_serial))
            .net(Net::user(&self.recipe.mac))
    }
}

/// The image's name in its cache folder.
const DISK_FILE: &str = "disk.img";
/// The UEFI variables beside it.
const VARIABLES_FILE: &str = "variables.fd";
