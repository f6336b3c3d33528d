//! What a plan's steps are carried out on.

use restore_plan::{Plan, Step};

/// A machine that carries out one step at a time. The real one is [`crate::live::LiveMachine`]; tests have one that
/// is stricter and fails when told to.
pub trait Machine {
    /// Why a step failed.
    type Error;

    /// Takes hold of every target of `plan`, and shows of each that nothing uses it and that it is the disk the plan
    /// names. It writes nothing, so that a disk that is not there or not free is found before another one is erased.
    ///
    /// # Errors
    /// The first disk that cannot be used.
    fn claim(&mut self, plan: &Plan) -> Result<(), Self::Error>;

    /// Carries out one step of `plan`, and nothing else. What an operator should know besides comes back as
    /// warnings.
    ///
    /// # Errors
    /// Anything that keeps the step from being done completely.
    fn carry_out(&mut self, plan: &Plan, step: &Step) -> Result<Vec<String>, Self::Error>;

    /// Lets go of everything after a failure: unmounts what is mounted, closes what is open. It writes nothing.
    fn let_go(&mut self);
}
