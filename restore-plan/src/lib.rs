//! Plans a restore, and judges plans.
//!
//! Pure: no I/O, no clock, no randomness, no environment (`clippy.toml` bans them). The dry run of a restore is
//! the rendering of its plan.

mod finding;
mod plan;
mod policy;
mod step;

pub use finding::{Finding, Severity};
pub use plan::{
    Change, MatchedBy, PLAN_VERSION, Plan, PlanSource, PlannedPartition, PlannedVolume, TargetDisk, Untouched,
    VolumeFate,
};
pub use policy::{AllowedForeign, Policy, Resume};
pub use step::{
    Adaptation, AnnouncedPartition, BootSector, ByteRange, DEVICE_WORD, FillMode, LoaderCopy, PlannedEfiEntry, Step,
    ToolCall,
};
