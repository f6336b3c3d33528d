//! Judges a plan without having made it. Nothing here calls the planner: the same mistake would have to be made
//! twice to pass.

mod coverage;
mod order;
mod places;
mod targets;

use node_model::{Inventory, NodeSpec, Volume};

use crate::{Finding, Plan};

/// What a judge sees.
struct Case<'a> {
    plan: &'a Plan,
    spec: &'a NodeSpec,
    volumes: &'a [Volume],
    inventory: &'a Inventory,
}

/// What is wrong with a plan; empty if nothing is. Every finding is a [`crate::Severity::Blocker`]: a plan that
/// does not pass must not be carried out, by whomever it was made.
pub fn check(plan: &Plan, spec: &NodeSpec, volumes: &[Volume], inventory: &Inventory) -> Vec<Finding> {
    let case = Case { plan, spec, volumes, inventory };
    let mut faults = Faults::default();
    targets::judge(&case, &mut faults);
    places::judge(&case, &mut faults);
    order::judge(&case, &mut faults);
    coverage::judge(&case, &mut faults);
    faults.0
}

/// Collects what is wrong.
#[derive(Default)]
struct Faults(Vec<Finding>);

impl Faults {
    fn add(&mut self, code: &str, what: impl Into<String>) {
        self.0.push(Finding::blocker(code, what, "do not carry this plan out; please report it"));
    }
}

#[cfg(test)]
mod tests {
    use crate::{Finding, Severity};

    #[test]
    fn whatever_the_checker_finds_blocks() {
        let mut faults = super::Faults::default();
        faults.add("x", "y");
        assert!(faults.0.iter().all(|finding: &Finding| finding.severity == Severity::Blocker));
    }
}
