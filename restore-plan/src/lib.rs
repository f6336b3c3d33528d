//! Plans a restore ([`plan`]), and judges plans ([`check`]).
//!
//! Pure: no I/O, no clock, no randomness, no environment (`clippy.toml` bans them). The dry run of a restore is
//! [`Plan::render`]; consent is to [`Plan::digest`].

mod adapt;
mod boot;
mod check;
mod compare;
mod digest;
mod eligibility;
mod error;
mod finding;
mod intake;
mod keepsake;
mod matching;
mod mkfs;
mod plan;
mod planner;
mod policy;
mod render;
mod step;
mod steps;
mod table;

pub use check::check;
pub use compare::{FieldDifference, compare_filesystems, compare_swap};
pub use error::{Override, PlanError};
pub use finding::{Finding, Severity};
pub use keepsake::KeptLog;
pub use plan::{
    Change, MatchedBy, PLAN_VERSION, Plan, PlanSource, PlannedPartition, PlannedVolume, TargetDisk, Untouched,
    VolumeFate,
};
pub use planner::plan;
pub use policy::{AllowedForeign, Policy, Resume};
pub use step::{
    Adaptation, AnnouncedPartition, BootSector, ByteRange, DEVICE_WORD, FillMode, LoaderCopy, PlannedEfiEntry, Step,
    ToolCall,
};
