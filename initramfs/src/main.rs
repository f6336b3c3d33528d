//! `init`: PID 1 of the restore environment, and the kernel's `modprobe` there.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // The kernel asks for modules with exactly these arguments.
    if let [quiet, end, wanted] = &arguments[..]
        && (quiet.as_str(), end.as_str()) == ("-q", "--")
        && std::process::id() != 1
    {
        return if initramfs::devices::load_as_modprobe(wanted) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    if let Err(error) = initramfs::mounts::assert_initramfs() {
        let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
        eprintln!("init: {error}{}", source.unwrap_or_default());
        return ExitCode::FAILURE;
    }
    initramfs::run::run()
}
