//! Consent to a plan: what must be typed, and what counts as typed.

use serde::{Deserialize, Serialize};

use crate::Answer;

/// The least number of characters of a serial number that must be typed (all of it, where it is shorter).
pub const CONSENT_CHARS_MIN: usize = 4;

/// A request for consent to exactly one plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanConsent {
    /// Digest of the plan.
    pub digest: String,
    /// The disks that will be erased, each with what must be typed for it.
    pub disks: Vec<ConsentDisk>,
}

/// One disk that will be erased.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsentDisk {
    /// The disk as people know it: model, size, kernel name.
    pub label: String,
    /// Its serial number, or the strongest identifier it has instead.
    pub serial: String,
    /// How many of its last characters must be typed at least, so that no other disk of this machine ends alike.
    pub chars: usize,
}

impl ConsentDisk {
    /// A disk to be erased. `others` are the serial numbers of all other disks of the machine, targets or not.
    pub fn new<'a>(label: String, serial: String, others: impl IntoIterator<Item = &'a str>) -> Self {
        let alike = others.into_iter().map(|other| common_suffix_chars(&serial, other)).max().unwrap_or(0);
        let chars = CONSENT_CHARS_MIN.max(alike + 1).min(serial.chars().count());
        Self { label, serial, chars }
    }

    /// The end of the serial number that must be typed at least.
    pub fn least(&self) -> &str {
        let skip = self.serial.chars().count().saturating_sub(self.chars);
        self.serial.char_indices().nth(skip).map_or("", |(at, _)| &self.serial[at..])
    }

    /// Whether `typed` is enough of this disk's serial number: its last characters, at least as many as asked for.
    /// Case and space around it do not matter.
    pub fn is_confirmed_by(&self, typed: &str) -> bool {
        let typed = typed.trim().to_lowercase();
        let serial = self.serial.trim().to_lowercase();
        let enough = self.chars.max(CONSENT_CHARS_MIN).min(serial.chars().count());
        !typed.is_empty() && typed.chars().count() >= enough && serial.ends_with(&typed)
    }
}

/// How many characters two serial numbers have in common at their ends.
fn common_suffix_chars(one: &str, other: &str) -> usize {
    let (one, other) = (one.to_lowercase(), other.to_lowercase());
    one.chars().rev().zip(other.chars().rev()).take_while(|(a, b)| a == b).count()
}

impl PlanConsent {
    /// Judges an answer. Only an [`Answer::Consent`] that names this plan's digest and confirms every disk consents;
    /// an empty one never does, not even to a plan that lists no disk.
    ///
    /// # Errors
    /// Why the answer is no consent.
    pub fn judge(&self, answer: &Answer) -> Result<(), ConsentProblem> {
        let Answer::Consent { digest, disks } = answer else {
            return Err(ConsentProblem::Declined);
        };
        if self.digest.is_empty() || *digest != self.digest {
            return Err(ConsentProblem::AnotherPlan);
        }
        if self.disks.is_empty() {
            return Err(ConsentProblem::NothingToConfirm);
        }
        for disk in &self.disks {
            let mut typed = disks.iter().filter(|typed| typed.serial == disk.serial);
            if !typed.next().is_some_and(|typed| disk.is_confirmed_by(&typed.typed)) {
                return Err(ConsentProblem::Unconfirmed {
                    disk: disk.label.clone(),
                    serial: disk.serial.clone(),
                    chars: disk.chars,
                });
            }
        }
        Ok(())
    }
}

/// Why an answer is no consent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsentProblem {
    /// The answer was no, or no answer to this question.
    #[error("no consent was given")]
    Declined,
    /// The answer was to a plan that is no longer on the screen.
    #[error("the plan changed while you were typing")]
    AnotherPlan,
    /// There is no disk whose serial number could be typed.
    #[error("the plan names no disk to confirm")]
    NothingToConfirm,
    /// What was typed for a disk is not the end of its serial number, or too little of it.
    #[error("{disk} is not confirmed: type the last {chars} or more characters of its serial number {serial}")]
    Unconfirmed {
        /// The disk as people know it.
        disk: String,
        /// Its serial number.
        serial: String,
        /// How many characters are needed.
        chars: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DiskConfirmation;

    fn consent() -> PlanConsent {
        let others = ["S3Z9NX0K500002", "S3Z9NX0M400001"];
        let disk = |serial: &str| {
            ConsentDisk::new(format!("disk {serial}"), serial.into(), others.into_iter().filter(move |s| *s != serial))
        };
        PlanConsent { digest: "d1".into(), disks: vec![disk(others[0]), disk(others[1])] }
    }

    fn typed(digest: &str, texts: [&str; 2]) -> Answer {
        let serials = ["S3Z9NX0K500002", "S3Z9NX0M400001"];
        let disks = serials.iter().zip(texts);
        let disks = disks.map(|(serial, typed)| DiskConfirmation { serial: (*serial).into(), typed: typed.into() });
        Answer::Consent { digest: digest.into(), disks: disks.collect() }
    }

    #[test]
    fn the_end_of_every_serial_number_consents() {
        assert_eq!(consent().judge(&typed("d1", ["0002", " 0m400001 "])), Ok(()));
        assert_eq!(consent().judge(&typed("d1", ["S3Z9NX0K500002", "0001"])), Ok(()));
    }

    #[test]
    fn fault_42_nothing_empty_short_or_wrong_consents() {
        let unconfirmed = |texts| consent().judge(&typed("d1", texts)).unwrap_err();
        for texts in [["", ""], [" ", "\n"], ["0002", ""], ["002", "0001"], ["0001", "0002"], ["S3Z9", "0001"]] {
            assert!(matches!(unconfirmed(texts), ConsentProblem::Unconfirmed { .. }), "{texts:?}");
        }
        assert_eq!(consent().judge(&Answer::Text(String::new())), Err(ConsentProblem::Declined));
        assert_eq!(consent().judge(&Answer::Text("0002".into())), Err(ConsentProblem::Declined));
        assert_eq!(consent().judge(&Answer::Decline), Err(ConsentProblem::Declined));
        let none = Answer::Consent { digest: "d1".into(), disks: vec![] };
        assert!(consent().judge(&none).is_err());
        let nothing = PlanConsent { digest: "d1".into(), disks: vec![] };
        assert_eq!(nothing.judge(&none), Err(ConsentProblem::NothingToConfirm));
    }

    #[test]
    fn consent_to_one_plan_is_none_to_another() {
        assert_eq!(consent().judge(&typed("d2", ["0002", "0001"])), Err(ConsentProblem::AnotherPlan));
        let unnamed = PlanConsent { digest: String::new(), ..consent() };
        assert_eq!(unnamed.judge(&typed("", ["0002", "0001"])), Err(ConsentProblem::AnotherPlan));
    }

    #[test]
    fn disks_that_end_alike_ask_for_more_characters() {
        let disk = ConsentDisk::new("d".into(), "AAAA1234".into(), ["BBBB1234", "CCCA1234"]);
        assert_eq!((disk.chars, disk.least()), (6, "AA1234"));
        assert!(!disk.is_confirmed_by("a1234"));
        assert!(disk.is_confirmed_by("aa1234"));
    }

    #[test]
    fn a_short_serial_number_is_typed_whole() {
        let disk = ConsentDisk::new("d".into(), "7".into(), []);
        assert!(!disk.is_confirmed_by(""));
        assert!(disk.is_confirmed_by("7"));
    }
}
