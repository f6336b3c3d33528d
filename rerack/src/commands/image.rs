//! `rerack image`.

use std::path::PathBuf;
use std::process::ExitCode;

use image_builder::{IsoOptions, Profile, build_iso};
use node_model::Bytes;

use crate::problem::{OrProblem, Outcome, Problem};

/// Build boot images.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    medium: Medium,
}

#[derive(clap::Subcommand)]
enum Medium {
    /// Build a boot CD for BIOS and UEFI machines. It is the same for every node and holds no secret.
    Iso(Iso),
}

#[derive(clap::Args)]
struct Iso {
    /// Where to write the ISO; the list of what is in it is written beside it.
    #[arg(short, long)]
    output: PathBuf,
    /// The folder with the static programs `init`, `restore` and `restore-tui`; by default the one of this program.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Which hardware it knows: `server` or `virtio`.
    #[arg(long, default_value = "server")]
    profile: Profile,
    /// Debian's release that kernel and tools come from.
    #[arg(long, default_value = "trixie")]
    suite: String,
    /// Kernel arguments that are defaults of this image. Never a secret: whoever has the image can read them.
    #[arg(long, value_name = "ARGUMENTS", default_value = "")]
    append: String,
    /// Where what Debian ships is kept between builds.
    #[arg(long, value_name = "DIR", default_value = "/var/cache/rerack")]
    cache: PathBuf,
}

pub(crate) fn run(options: &Options) -> Outcome {
    let Medium::Iso(iso) = &options.medium;
    let folder = match &iso.programs {
        Some(folder) => folder.clone(),
        None => own_folder()?,
    };
    let report = build_iso(&IsoOptions {
        init: folder.join("init"),
        restore: folder.join("restore"),
        restore_tui: folder.join("restore-tui"),
        suite: iso.suite.clone(),
        profile: iso.profile,
        kernel_args: iso.append.clone(),
        cache_dir: iso.cache.clone(),
        out: iso.output.clone(),
        source_date_epoch: source_date_epoch(),
    })
    .or_hint(image_builder::Error::hint)?;
    println!(
        "{}: {}, initramfs {}, kernel {}, {} modules; contents in {}",
        report.iso.display(),
        Bytes(report.iso_bytes),
        Bytes(report.initramfs_bytes),
        report.kernel_release,
        report.modules,
        report.inventory.display()
    );
    Ok(ExitCode::SUCCESS)
}

fn own_folder() -> Result<PathBuf, Problem> {
    let own = std::env::current_exe().map_err(|error| Problem::new(error, None))?;
    own.parent().map(PathBuf::from).ok_or_else(|| {
        Problem::words("the folder of this program cannot be found", "name the programs' folder by --programs")
    })
}

/// The time of everything in the image: as `SOURCE_DATE_EPOCH` says, so that equal inputs make equal bytes.
fn source_date_epoch() -> u64 {
    let given = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse().ok());
    given.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map(|since| since.as_secs()).unwrap_or_default()
    })
}
