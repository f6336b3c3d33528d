//! What must be written otherwise than it was captured, because the machine differs: device names in fstab,
//! hardware addresses in network files. Line by line; what needs no change keeps its bytes.

mod fstab;
mod interfaces;
mod mac;

use node_model::{ConfigFile, DeviceKey, HexBytes, Inventory, NodeSpec, Volume, VolumeKind};

use crate::finding::Finding;
use crate::intake::Snapshot;
use crate::matching::Match;
use crate::plan::Change;
use crate::policy::Policy;
use crate::step::Adaptation;

/// All adaptations of a plan.
#[derive(Debug, Default)]
pub(crate) struct Adaptations {
    pub(crate) files: Vec<Adaptation>,
    pub(crate) changes: Vec<Change>,
    pub(crate) findings: Vec<Finding>,
}

/// A line that is rewritten.
#[derive(Debug, Clone, PartialEq, Eq)]
struct LineChange {
    /// Its number, from 1.
    line: usize,
    /// What becomes what.
    what: String,
}

/// A file with lines rewritten.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rewritten {
    content: Vec<u8>,
    lines: Vec<LineChange>,
}

/// Rewrites the lines of a file that are text; others stay. `rewrite` gives a line's new text and what to say of it.
fn rewrite_lines(content: &[u8], mut rewrite: impl FnMut(&str) -> Option<(String, String)>) -> Rewritten {
    let mut rewritten = Rewritten { content: Vec::with_capacity(content.len()), lines: Vec::new() };
    for (index, raw) in content.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let body = raw.strip_suffix(b"\n").unwrap_or(raw);
        match str::from_utf8(body).ok().and_then(&mut rewrite) {
            Some((new, what)) => {
                rewritten.content.extend_from_slice(new.as_bytes());
                rewritten.content.extend_from_slice(&raw[body.len()..]);
                rewritten.lines.push(LineChange { line: index + 1, what });
            }
            None => rewritten.content.extend_from_slice(raw),
        }
    }
    rewritten
}

/// Works out every adaptation.
pub(crate) fn adapt(
    snapshot: &Snapshot<'_>,
    matches: &[Match<'_>],
    inventory: &Inventory,
    policy: &Policy,
) -> Adaptations {
    let mut all = Adaptations::default();
    if let Some(file) = &snapshot.spec.fstab {
        let (rewritten, findings) = fstab::rewrite(snapshot, matches, &file.content.0);
        all.findings.extend(findings);
        all.add(snapshot, file, rewritten, "the disk has another name in this machine; its UUID stays");
    }
    if policy.keep_network {
        return all;
    }
    let mapping = interfaces::map(&snapshot.spec.network.interfaces, &inventory.interfaces);
    all.findings.extend(mapping.findings);
    for file in &snapshot.spec.network.files {
        let rewritten = mac::rewrite(file.backend, &file.content.0, &mapping.macs);
        all.add(snapshot, file, rewritten, "the network card was replaced and has another address");
    }
    all
}

impl Adaptations {
    fn add(&mut self, snapshot: &Snapshot<'_>, file: &ConfigFile, rewritten: Rewritten, reason: &str) {
        if rewritten.lines.is_empty() {
            return;
        }
        let Some((device, path)) = locate(snapshot.spec, snapshot.volumes, &file.path) else {
            self.findings.push(Finding::warning(
                "file-not-captured",
                format!("{} would have to be changed, but no captured filesystem holds it", file.path),
                "edit it on the node after the restore",
            ));
            return;
        };
        for LineChange { line, what } in rewritten.lines {
            let what = format!("{} line {line}: {what}", file.path);
            self.changes.push(Change { what, reason: reason.to_owned() });
        }
        self.files.push(Adaptation {
            device,
            node_path: file.path.clone(),
            path,
            old_blake3: HexBytes(blake3::hash(&file.content.0).as_bytes().to_vec()),
            new_content: HexBytes(rewritten.content),
            reason: reason.to_owned(),
        });
    }
}

/// The captured filesystem that holds a path of the node, and the path from its root.
pub(crate) fn locate(spec: &NodeSpec, volumes: &[Volume], path: &str) -> Option<(DeviceKey, String)> {
    let below = |target: &str| {
        let rest = path.strip_prefix(target.trim_end_matches('/'))?.strip_prefix('/')?;
        (!rest.is_empty()).then(|| rest.to_owned())
    };
    let mounts = spec.mounts.iter().filter_map(|mount| Some((mount, below(&mount.target)?)));
    let (mount, rest) = mounts.max_by_key(|(mount, _)| mount.target.trim_end_matches('/').len())?;
    let device = mount.device.clone()?;
    let has_files = |volume: &Volume| volume.device == device && matches!(volume.volume, VolumeKind::Files { .. });
    volumes.iter().any(has_files).then_some((device, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_line_that_changes_loses_its_bytes() {
        let content = b"a\r\n\xff\xfe keep\n\nchange me";
        let rewritten = rewrite_lines(content, |line| {
            (line == "change me").then(|| ("changed".to_owned(), "me becomes d".to_owned()))
        });
        assert_eq!(rewritten.content, b"a\r\n\xff\xfe keep\n\nchanged");
        assert_eq!(rewritten.lines, [LineChange { line: 4, what: "me becomes d".into() }]);
    }
}
