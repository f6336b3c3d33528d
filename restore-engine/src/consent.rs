//! Consent, as a type: only a plan that was consented to can be carried out.

use restore_plan::Plan;

/// A plan together with the proof that its digest was consented to, and that nothing forbids it.
#[derive(Debug, Clone)]
pub struct ConsentedPlan(Plan);

/// Why a plan may not be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoConsent {
    /// The digest consented to is another.
    #[error("consent was given to plan {consented}, and this is plan {plan}")]
    AnotherPlan {
        /// What was consented to.
        consented: String,
        /// This plan's digest.
        plan: String,
    },
    /// The plan must not be carried out, consent or not.
    #[error("the plan must not be carried out: {0}")]
    Blocked(String),
}

impl NoConsent {
    /// What an operator can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::AnotherPlan { .. } => "print the plan again, read it, and confirm the digest it shows",
            Self::Blocked(_) => "resolve what the plan names, and plan again",
        }
    }
}

impl ConsentedPlan {
    /// Takes `plan` if `digest` is exactly its digest.
    ///
    /// # Errors
    /// If it is not, or the plan has a finding that forbids it.
    pub fn new(plan: Plan, digest: &str) -> Result<Self, NoConsent> {
        let own = plan.digest();
        if own.is_empty() || digest != own {
            return Err(NoConsent::AnotherPlan { consented: digest.to_owned(), plan: own });
        }
        if let Some(blocker) = plan.blockers().next() {
            return Err(NoConsent::Blocked(blocker.what.clone()));
        }
        Ok(Self(plan))
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.0
    }
}
