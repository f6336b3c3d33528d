//! The arm: one authorisation to erase and restore one node once. Pure: time, machines and tokens come as inputs.
//!
//! ```text
//!            open                  claim            erased           done
//! armed ----------------> armed ----------> claimed ------> erased ------> done
//!   |   by one machine      |  within the     |  the same     |
//!   |   within the hour     |  hour           |  plan only    |
//!   +--- revoke ------------+--- revoke ------+--- revoke ----+------> revoked
//! ```
//! The machine that opened an arm may open it again, with a new token, until it is done or revoked; the hour limits
//! opening and claiming only as long as nothing is claimed.

use bundle::Hash;
use bundle::node_model::{DiskId, MachineIdentity, NodeName, SnapshotId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The name of an arm: 16 hexadecimal digits. It is no secret.
pub type ArmId = String;

/// An arm as the server keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arm {
    /// Its name.
    pub id: ArmId,
    /// The node it is for.
    pub node: NodeName,
    /// When it was made.
    pub created_at: Timestamp,
    /// Until when it can be claimed.
    pub expires_at: Timestamp,
    /// How far it is.
    pub state: ArmState,
    /// The machine that used its code.
    pub machine: Option<MachineIdentity>,
}

/// How far an arm is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum ArmState {
    /// Nothing is claimed.
    Armed,
    /// A plan is claimed; nothing was erased.
    Claimed(ClaimedPlan),
    /// The claimed plan's disks were erased, or are about to be.
    Erased(ClaimedPlan),
    /// The restore is over.
    Done(ClaimedPlan),
    /// An operator took it back.
    Revoked,
}

/// What a machine has claimed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimedPlan {
    /// Digest of the plan.
    pub plan_digest: Hash,
    /// The disks it erases.
    pub disks: Vec<DiskId>,
    /// The snapshot it restores.
    pub snapshot: SnapshotId,
    /// When it was claimed.
    pub claimed_at: Timestamp,
}

/// Why an arm does not allow something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ArmRefusal {
    /// The machine cannot be told from others.
    #[error("the machine names neither a system UUID nor a network address, so it could not be recognised again")]
    NoIdentity,
    /// Another machine has it.
    #[error("this restore code was used by another machine")]
    OtherMachine,
    /// The hour is over.
    #[error("this restore code expired before a restore was claimed with it")]
    Expired,
    /// It was taken back.
    #[error("this arm was taken back by an operator")]
    Revoked,
    /// Its restore is over.
    #[error("the restore that was armed is done")]
    Done,
    /// The step needs a claim first.
    #[error("no plan is claimed yet")]
    NotClaimed,
    /// Another plan is claimed.
    #[error("another plan than the claimed one")]
    OtherPlan,
}

impl Arm {
    /// A machine shows the arm's code.
    pub fn open(&mut self, machine: &MachineIdentity, now: Timestamp) -> Result<(), ArmRefusal> {
        self.check_alive(now)?;
        if machine.system_uuid.is_none() && machine.macs.is_empty() {
            return Err(ArmRefusal::NoIdentity);
        }
        match &self.machine {
            Some(bound) if !bound.is_surely_same_machine(machine) => Err(ArmRefusal::OtherMachine),
            Some(_) => Ok(()),
            None => {
                self.machine = Some(machine.clone());
                Ok(())
            }
        }
    }

    /// The machine binds the arm to a plan. The same claim again changes nothing; before anything is erased another
    /// plan may take the place of the first, within the hour.
    pub fn claim(&mut self, claim: ClaimedPlan, now: Timestamp) -> Result<(), ArmRefusal> {
        self.check_alive(now)?;
        match &self.state {
            ArmState::Claimed(held) | ArmState::Erased(held) if held.is_same(&claim) => Ok(()),
            ArmState::Erased(_) => Err(ArmRefusal::OtherPlan),
            _ if now >= self.expires_at => Err(ArmRefusal::Expired),
            _ => {
                self.state = ArmState::Claimed(claim);
                Ok(())
            }
        }
    }

    /// The claimed plan's disks are about to be erased.
    pub fn erased(&mut self, plan_digest: &Hash, now: Timestamp) -> Result<(), ArmRefusal> {
        self.check_alive(now)?;
        let held = self.claimed(plan_digest)?;
        self.state = ArmState::Erased(held);
        Ok(())
    }

    /// The restore is over: the arm is burnt. A plan that keeps every volume ends without having erased anything.
    pub fn done(&mut self, plan_digest: &Hash, now: Timestamp) -> Result<(), ArmRefusal> {
        if !matches!(self.state, ArmState::Done(_)) {
            self.check_alive(now)?;
        }
        let held = self.claimed(plan_digest)?;
        self.state = ArmState::Done(held);
        Ok(())
    }

    /// An operator takes it back.
    pub fn revoke(&mut self) -> Result<(), ArmRefusal> {
        if matches!(self.state, ArmState::Done(_)) {
            return Err(ArmRefusal::Done);
        }
        self.state = ArmState::Revoked;
        Ok(())
    }

    /// Whether its token may read the node's bundles now.
    pub fn check_alive(&self, now: Timestamp) -> Result<(), ArmRefusal> {
        match self.state {
            ArmState::Revoked => Err(ArmRefusal::Revoked),
            ArmState::Done(_) => Err(ArmRefusal::Done),
            ArmState::Armed if now >= self.expires_at => Err(ArmRefusal::Expired),
            _ => Ok(()),
        }
    }

    /// Whether a machine is in the midst of using it.
    pub fn is_in_use(&self) -> bool {
        matches!(self.state, ArmState::Claimed(_) | ArmState::Erased(_))
    }

    /// The plan it is bound to, if it is.
    pub fn plan(&self) -> Option<&ClaimedPlan> {
        match &self.state {
            ArmState::Claimed(plan) | ArmState::Erased(plan) | ArmState::Done(plan) => Some(plan),
            ArmState::Armed | ArmState::Revoked => None,
        }
    }

    fn claimed(&self, plan_digest: &Hash) -> Result<ClaimedPlan, ArmRefusal> {
        match self.plan() {
            None => Err(ArmRefusal::NotClaimed),
            Some(held) if held.plan_digest != *plan_digest => Err(ArmRefusal::OtherPlan),
            Some(held) => Ok(held.clone()),
        }
    }
}

impl ClaimedPlan {
    fn is_same(&self, other: &Self) -> bool {
        self.plan_digest == other.plan_digest && self.snapshot == other.snapshot && self.disks == other.disks
    }
}

impl ArmState {
    /// A word for lists.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Armed => "armed",
            Self::Claimed(_) => "claimed",
            Self::Erased(_) => "erased",
            Self::Done(_) => "done",
            Self::Revoked => "revoked",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MADE: &str = "2026-11-21T03:00:00Z";
    const IN_TIME: &str = "2026-11-21T03:59:59Z";
    const TOO_LATE: &str = "2026-11-21T04:00:00Z";

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn arm() -> Arm {
        Arm {
            id: "0123456789abcdef".to_owned(),
            node: "web-03".parse().unwrap(),
            created_at: at(MADE),
            expires_at: at(TOO_LATE),
            state: ArmState::Armed,
            machine: None,
        }
    }

    fn machine(uuid: &str, mac: u8) -> MachineIdentity {
        MachineIdentity {
            system_uuid: Some(uuid.to_owned()),
            macs: vec![bundle::node_model::MacAddress([2, 0, 0, 0, 0, mac])],
            ..MachineIdentity::default()
        }
    }

    fn plan(name: &str) -> ClaimedPlan {
        ClaimedPlan {
            plan_digest: Hash::of(name.as_bytes()),
            disks: Vec::new(),
            snapshot: "5af0".parse().unwrap(),
            claimed_at: at(MADE),
        }
    }

    /// Everything that can be done to an arm, each with its time.
    #[derive(Debug, Clone, Copy)]
    enum Act {
        Open(u8, &'static str),
        Claim(&'static str, &'static str),
        Erased(&'static str, &'static str),
        Done(&'static str, &'static str),
        Revoke,
    }

    const ACTS: [Act; 15] = [
        Act::Open(1, IN_TIME),
        Act::Open(1, TOO_LATE),
        Act::Open(2, IN_TIME),
        Act::Open(2, TOO_LATE),
        Act::Claim("a", IN_TIME),
        Act::Claim("a", TOO_LATE),
        Act::Claim("b", IN_TIME),
        Act::Claim("b", TOO_LATE),
        Act::Erased("a", TOO_LATE),
        Act::Erased("b", IN_TIME),
        Act::Done("a", TOO_LATE),
        Act::Done("b", IN_TIME),
        Act::Erased("c", IN_TIME),
        Act::Done("c", IN_TIME),
        Act::Revoke,
    ];

    fn apply(arm: &mut Arm, act: Act) -> Result<(), ArmRefusal> {
        match act {
            Act::Open(number, time) => arm.open(&machine(&number.to_string(), number), at(time)),
            Act::Claim(name, time) => arm.claim(plan(name), at(time)),
            Act::Erased(name, time) => arm.erased(&Hash::of(name.as_bytes()), at(time)),
            Act::Done(name, time) => arm.done(&Hash::of(name.as_bytes()), at(time)),
            Act::Revoke => arm.revoke(),
        }
    }

    /// Every order of up to five acts, 15^5 in all: what must hold, holds after each.
    #[test]
    fn no_order_of_requests_authorises_twice() {
        fn walk(arm: &Arm, depth: u32) {
            for act in ACTS {
                let mut next = arm.clone();
                let outcome = apply(&mut next, act);
                if outcome.is_err() {
                    assert_eq!(next, *arm, "a refused {act:?} changes nothing");
                    continue;
                }
                if arm.machine.is_some() {
                    assert_eq!(next.machine, arm.machine, "{act:?} lets another machine in");
                }
                match &arm.state {
                    ArmState::Revoked => assert_eq!(next.state, ArmState::Revoked, "{act:?} revives it"),
                    ArmState::Done(_) => assert_eq!(next.state, arm.state, "{act:?} revives it"),
                    ArmState::Erased(held) => {
                        assert!(next.plan().is_none_or(|plan| plan == held), "{act:?} erases under another plan");
                    }
                    ArmState::Claimed(held) => {
                        let moved_on = matches!(next.state, ArmState::Erased(_) | ArmState::Done(_));
                        assert!(!moved_on || next.plan() == Some(held), "{act:?} erases what nobody claimed");
                    }
                    ArmState::Armed => {
                        assert!(
                            !matches!(next.state, ArmState::Erased(_) | ArmState::Done(_)),
                            "{act:?} skips the claim"
                        );
                        let late = matches!(act, Act::Open(_, TOO_LATE) | Act::Claim(_, TOO_LATE));
                        assert!(!late, "{act:?} comes too late");
                    }
                }
                if depth > 0 {
                    walk(&next, depth - 1);
                }
            }
        }
        walk(&arm(), 4);
    }

    #[test]
    fn the_machine_that_claimed_goes_on_after_a_power_cut_however_late() {
        let mut arm = arm();
        arm.open(&machine("m", 1), at(IN_TIME)).unwrap();
        arm.claim(plan("a"), at(IN_TIME)).unwrap();
        arm.open(&machine("m", 1), at(TOO_LATE)).unwrap();
        arm.claim(plan("a"), at(TOO_LATE)).unwrap();
        arm.erased(&plan("a").plan_digest, at(TOO_LATE)).unwrap();
        arm.open(&machine("m", 1), at(TOO_LATE)).unwrap();
        arm.claim(plan("a"), at(TOO_LATE)).unwrap();
        assert!(matches!(arm.state, ArmState::Erased(_)), "claiming again does not forget the erasure");
        arm.done(&plan("a").plan_digest, at(TOO_LATE)).unwrap();
        arm.done(&plan("a").plan_digest, at(TOO_LATE)).unwrap();
        assert_eq!(arm.open(&machine("m", 1), at(TOO_LATE)), Err(ArmRefusal::Done));
    }

    #[test]
    fn a_machine_is_recognised_by_more_than_a_uuid_that_its_maker_gave_to_all() {
        let mut arm = arm();
        arm.open(&machine("03000200-0400-0500-0006-000700080009", 1), at(MADE)).unwrap();
        let twin = machine("03000200-0400-0500-0006-000700080009", 2);
        assert_eq!(arm.open(&twin, at(MADE)), Err(ArmRefusal::OtherMachine));
        assert_eq!(arm.open(&MachineIdentity::default(), at(MADE)), Err(ArmRefusal::NoIdentity));
    }
}
