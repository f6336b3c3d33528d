//! PAX extended headers: `length key=value\n` for whatever a ustar header cannot hold.

use node_model::XattrList;

use super::{flags, time};

const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";

/// The records of one entry. What is `None`, empty or zero has no record.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Records {
    /// Names are bytes, not UTF-8.
    pub(super) binary_names: bool,
    pub(super) path: Option<Vec<u8>>,
    pub(super) linkpath: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) mtime: Option<node_model::Timestamp>,
    /// Path and whole size of a sparse file.
    pub(super) sparse: Option<(Vec<u8>, u64)>,
    pub(super) xattrs: XattrList,
    pub(super) flags: u32,
    pub(super) project_id: u32,
}

impl Records {
    /// All records, in the order in which this format writes them.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if self.binary_names {
            put(&mut out, b"hdrcharset", b"BINARY");
        }
        for (key, name) in [("path", &self.path), ("linkpath", &self.linkpath)] {
            if let Some(name) = name {
                put(&mut out, key.as_bytes(), name);
            }
        }
        for (key, number) in [("size", self.size), ("uid", self.uid.map(u64::from)), ("gid", self.gid.map(u64::from))] {
            if let Some(number) = number {
                put(&mut out, key.as_bytes(), number.to_string().as_bytes());
            }
        }
        if let Some(mtime) = self.mtime {
            put(&mut out, b"mtime", time::format(mtime).as_bytes());
        }
        if let Some((name, size)) = &self.sparse {
            put(&mut out, b"GNU.sparse.major", b"1");
            put(&mut out, b"GNU.sparse.minor", b"0");
            put(&mut out, b"GNU.sparse.name", name);
            put(&mut out, b"GNU.sparse.realsize", size.to_string().as_bytes());
        }
        let named_flags = flags::names(self.flags);
        if !named_flags.is_empty() {
            put(&mut out, b"SCHILY.fflags", named_flags.as_bytes());
        }
        for (name, value) in &self.xattrs {
            put(&mut out, &[XATTR_PREFIX, &escape(name)].concat(), value);
        }
        for (key, number) in [("RERACK.flags", self.flags), ("RERACK.project", self.project_id)] {
            if number != 0 {
                put(&mut out, key.as_bytes(), number.to_string().as_bytes());
            }
        }
        out
    }

    /// Reads records. A record that this format does not know is an error; order and spelling are left to the caller,
    /// who writes them again and compares.
    pub(super) fn parse(mut bytes: &[u8]) -> Result<Self, &'static str> {
        let mut records = Self::default();
        let mut sparse_name = None;
        while !bytes.is_empty() {
            let (key, value, rest) = take(bytes).ok_or("a PAX record is malformed")?;
            bytes = rest;
            if let Some(name) = key.strip_prefix(XATTR_PREFIX) {
                let name = unescape(name).ok_or("the name of an extended attribute is malformed")?;
                records.xattrs.push((name, value.to_vec()));
                continue;
            }
            let number = || decimal(value).ok_or("a PAX record holds no number");
            let small =
                || decimal(value).and_then(|n| u32::try_from(n).ok()).ok_or("a PAX record's number is too large");
            match key {
                b"hdrcharset" if value == b"BINARY" => records.binary_names = true,
                b"path" => records.path = Some(value.to_vec()),
                b"linkpath" => records.linkpath = Some(value.to_vec()),
                b"size" => records.size = Some(number()?),
                b"uid" => records.uid = Some(small()?),
                b"gid" => records.gid = Some(small()?),
                b"mtime" => records.mtime = Some(time::parse(value).ok_or("a PAX record holds no time")?),
                b"GNU.sparse.major" if value == b"1" => {}
                b"GNU.sparse.minor" if value == b"0" => {}
                b"GNU.sparse.name" => sparse_name = Some(value.to_vec()),
                b"GNU.sparse.realsize" => {
                    records.sparse = Some((sparse_name.take().ok_or("a sparse file has no name")?, number()?));
                }
                b"SCHILY.fflags" => {}
                b"RERACK.flags" => records.flags = small()?,
                b"RERACK.project" => records.project_id = small()?,
                _ => return Err("a PAX record is unknown"),
            }
        }
        Ok(records)
    }
}

/// Appends one record. Its length counts its own digits.
fn put(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + digits(length) {
        length = rest + digits(length);
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn digits(number: usize) -> usize {
    number.max(1).ilog10() as usize + 1
}

/// Takes one record off the front: key, value, and what follows. A value may hold any bytes, line feeds too: only the
/// length says where it ends.
fn take(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|&b| b == b' ')?;
    let length = usize::try_from(decimal(&bytes[..space])?).ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|&b| b == b'=')?;
    Some((&record[..equals], &record[equals + 1..], rest))
}

fn decimal(text: &[u8]) -> Option<u64> {
    if !(1..=19).contains(&text.len()) || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(text.iter().fold(0, |n, b| n * 10 + u64::from(b - b'0')))
}

/// The name of an extended attribute as GNU tar writes it: `=` would end the key.
fn escape(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    for &byte in name {
        match byte {
            b'=' => out.extend_from_slice(b"%3D"),
            b'%' => out.extend_from_slice(b"%25"),
            other => out.push(other),
        }
    }
    out
}

fn unescape(name: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'%', [b'3', b'D', tail @ ..]) => {
                out.push(b'=');
                rest = tail;
            }
            (b'%', [b'2', b'5', tail @ ..]) => {
                out.push(b'%');
                rest = tail;
            }
            (b'%', _) => return None,
            (other, _) => out.push(*other),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_the_digits_of_its_own_length() {
        for (value_len, record_len) in [(0, 5), (4, 9), (5, 11), (92, 98), (93, 99), (94, 101)] {
            let mut out = Vec::new();
            put(&mut out, b"k", &vec![b'v'; value_len]);
            assert_eq!(out.len(), record_len, "{value_len}");
            assert!(out.starts_with(format!("{record_len} k=").as_bytes()));
            assert_eq!(take(&out), Some((&b"k"[..], &vec![b'v'; value_len][..], &b""[..])));
        }
    }

    #[test]
    fn xattr_names_are_escaped_as_gnu_tar_does() {
        assert_eq!(escape(b"user.a=b%c"), b"user.a%3Db%25c");
        assert_eq!(unescape(b"user.a%3Db%25c").unwrap(), b"user.a=b%c");
        assert_eq!(unescape(b"user.%41"), None);
        assert_eq!(unescape(b"user.%"), None);
    }

    #[test]
    fn a_value_with_line_feeds_and_zero_bytes_survives() {
        let records =
            Records { xattrs: vec![(b"user.odd".to_vec(), b"a\n12 path=/etc\n\0=".to_vec())], ..Records::default() };
        assert_eq!(Records::parse(&records.encode()).unwrap(), records);
    }

    #[test]
    fn a_record_of_unknown_meaning_is_refused() {
        for (record, why) in [
            (&b"9 foo=ba\n"[..], "unknown"),
            (b"12 comment=\n", "unknown"),
            (b"99 path=a\n", "malformed"),
            (b"9 path=ab\n", "malformed"),
            (b"10 path=ab", "malformed"),
            (b"0 path=ab\n", "malformed"),
            (b"11 size=-1\n", "no number"),
        ] {
            let error = Records::parse(record).unwrap_err();
            assert!(error.contains(why), "{error}: {}", String::from_utf8_lossy(record));
        }
    }
}
