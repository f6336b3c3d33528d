//! What a program needs to run: its dynamic linker and its shared libraries, and theirs.

use std::{
    collections::{BTreeSet, VecDeque},
    fs,
    path::Path,
};

use object::{
    LittleEndian,
    elf::{self, FileHeader64},
    read::elf::{Dyn, FileHeader, ProgramHeader},
};

use crate::Error;

/// Where Debian keeps libraries.
const LIBRARY_DIRS: [&str; 3] = ["usr/lib/x86_64-linux-gnu", "usr/lib64", "usr/lib"];

/// What an ELF file asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Path of its dynamic linker.
    pub(crate) interpreter: Option<String>,
    /// Names of its libraries.
    pub(crate) libraries: Vec<String>,
}

/// Reads what an ELF file asks for.
pub(crate) fn needs(path: &Path, content: &[u8]) -> Result<Needs, Error> {
    parse(content).map_err(|reason| Error::NotElf { path: path.to_path_buf(), reason })
}

fn parse(content: &[u8]) -> Result<Needs, String> {
    let text = |error: object::read::Error| error.to_string();
    let header = FileHeader64::<LittleEndian>::parse(content).map_err(text)?;
    let endian = header.endian().map_err(text)?;
    let segments = header.program_headers(endian, content).map_err(text)?;
    let mut needs = Needs::default();
    for segment in segments {
        if let Some(interpreter) = segment.interpreter(endian, content).map_err(text)? {
            needs.interpreter = Some(String::from_utf8_lossy(interpreter).into_owned());
        }
        let Some(entries) = segment.dynamic(endian, content).map_err(text)? else { continue };
        let value = |tag| entries.iter().find(|entry| entry.tag(endian) == tag).map(|entry| entry.val(endian));
        let (Some(address), Some(size)) = (value(elf::DT_STRTAB), value(elf::DT_STRSZ)) else { continue };
        // The table's address is one of memory: the segment that is loaded there tells where it lies in the file.
        let table = segments
            .iter()
            .find_map(|load| load.data_range(endian, content, address, size).ok().flatten())
            .ok_or("its dynamic string table lies outside every segment")?;
        for entry in entries.iter().filter(|entry| entry.tag(endian) == elf::DT_NEEDED) {
            let at = usize::try_from(entry.val(endian)).map_err(|_| "a library has no name")?;
            let start = table.get(at..).ok_or("a library has no name")?;
            let end = start.iter().position(|byte| *byte == 0).ok_or("a library's name does not end")?;
            needs.libraries.push(String::from_utf8_lossy(&start[..end]).into_owned());
        }
    }
    Ok(needs)
}

/// Every file of the tree that these programs and libraries need, themselves included, as paths in the tree.
pub(crate) fn closure(tree: &Path, programs: &[&str], libraries: &[&str]) -> Result<BTreeSet<String>, Error> {
    let mut found = BTreeSet::new();
    let mut waiting: VecDeque<String> = programs.iter().map(|program| (*program).to_owned()).collect();
    for library in libraries {
        waiting.push_back(locate(tree, library, "the list of libraries opened by name")?);
    }
    while let Some(path) = waiting.pop_front() {
        if !found.insert(path.clone()) {
            continue;
        }
        let full = tree.join(&path);
        let content = fs::read(&full).map_err(Error::file("read", &full))?;
        let needs = needs(&full, &content)?;
        if let Some(interpreter) = needs.interpreter {
            // `/lib64/...` in the header is `usr/lib64/...` in the merged tree.
            waiting.push_back(format!("usr{interpreter}"));
        }
        for library in needs.libraries {
            waiting.push_back(locate(tree, &library, &path)?);
        }
    }
    Ok(found)
}

fn locate(tree: &Path, library: &str, needed_by: &str) -> Result<String, Error> {
    LIBRARY_DIRS
        .iter()
        .map(|dir| format!("{dir}/{library}"))
        .find(|path| tree.join(path).is_file())
        .ok_or_else(|| Error::LibraryMissing { library: library.into(), needed_by: needed_by.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_very_test_needs_libc_and_a_dynamic_linker() {
        let path = std::env::current_exe().unwrap();
        let needs = needs(&path, &fs::read(&path).unwrap()).unwrap();
        assert!(needs.interpreter.unwrap().contains("ld-linux"));
        assert!(needs.libraries.iter().any(|name| name == "libc.so.6"), "{:?}", needs.libraries);
    }

    #[test]
    fn defect_of_lddtree_what_is_opened_by_name_is_listed_by_hand() {
        let libraries = crate::recipe::OPENED_LIBRARIES.map(|(name, _)| name);
        assert!(libraries.contains(&"libgcc_s.so.1"), "a thread of a tool would abort when it ends");
        let program = std::env::current_exe().unwrap().to_string_lossy().trim_start_matches('/').to_owned();
        let with = closure(Path::new("/"), &[&program], &["libgcc_s.so.1"]).unwrap();
        for library in ["libgcc_s.so.1", "libc.so.6"] {
            assert!(with.contains(&format!("usr/lib/x86_64-linux-gnu/{library}")), "{with:?}");
        }
        let missing = closure(Path::new("/"), &[&program], &["libnowhere.so.1"]).unwrap_err();
        assert!(missing.to_string().contains("libnowhere.so.1"), "{missing}");
    }

    #[test]
    fn what_is_no_program_is_an_error_that_names_the_file() {
        let error = needs(Path::new("/x/script"), b"#!/bin/sh\n").unwrap_err();
        assert!(error.to_string().contains("/x/script"));
    }

    #[test]
    fn a_cut_off_program_is_an_error() {
        let path = std::env::current_exe().unwrap();
        let content = fs::read(&path).unwrap();
        assert!(needs(&path, &content[..4096.min(content.len())]).is_err());
    }
}
