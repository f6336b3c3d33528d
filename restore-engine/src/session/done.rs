//! Telling the server that its arm is burnt.

use std::time::Duration;

use bundle::Hash;
use restore_events::Untold;
use server_api::{ClientError, ErrorCode, RestoreClient};

use super::Session;
use crate::data::chain;

/// How long a server that is gone is waited for: the node is restored, and nothing but this keeps it from its cluster.
const PATIENCE: Duration = Duration::from_secs(60);
/// First wait before the next try; it doubles up to [`BACKOFF_MAX`].
const BACKOFF_FIRST: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(8);

impl Session {
    /// Tells the server that the restore is done. An arm that is not burnt lets the same machine begin again, so a
    /// server that is gone for a moment is waited for.
    ///
    /// # Errors
    /// What somebody has to settle at the server instead: the node itself is back.
    pub(super) fn tell_done(&self, client: &RestoreClient, digest: Hash) -> Result<(), Untold> {
        let done = || self.runtime.block_on(client.done(digest)).map(drop);
        insist(done, std::thread::sleep).map_err(|error| Untold {
            server: client.reader().connection().server().to_string(),
            why: chain(&error),
            now_what: format!(
                "on the server, find the arm of {} with `rerack arms`, and take it back: rerack disarm ARM",
                client.reader().node()
            ),
        })
    }
}

/// Does `done` again, later each time, while waiting may help.
fn insist(
    mut done: impl FnMut() -> Result<(), ClientError>,
    mut sleep: impl FnMut(Duration),
) -> Result<(), ClientError> {
    let (mut waited, mut wait) = (Duration::ZERO, BACKOFF_FIRST);
    loop {
        match done() {
            // An arm that was taken back is as good as burnt.
            Err(error) if error.code() == Some(ErrorCode::CodeRevoked) => return Ok(()),
            Err(error) if error.is_transient() && waited + wait <= PATIENCE => {
                sleep(wait);
                waited += wait;
                wait = (2 * wait).min(BACKOFF_MAX);
            }
            ended => return ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use server_api::ApiError;

    use super::*;

    fn refused(code: ErrorCode) -> ClientError {
        let error = ApiError::new(code, "no");
        ClientError::Refused { server: "https://10.0.2.2".parse().unwrap(), status: 500, error, retry_after: None }
    }

    /// Whether the server knows in the end, how often it was asked, and how many seconds were waited.
    fn ends(answers: impl IntoIterator<Item = Option<ErrorCode>>) -> (bool, usize, u64) {
        let (mut asked, mut waited) = (0, Duration::ZERO);
        let mut answers = answers.into_iter();
        let done = || {
            asked += 1;
            answers.next().expect("not asked again").map_or(Ok(()), |code| Err(refused(code)))
        };
        let told = insist(done, |wait| waited += wait).is_ok();
        (told, asked, waited.as_secs())
    }

    #[test]
    fn a_server_that_is_gone_for_a_moment_is_told_and_one_that_stays_away_is_not_waited_for_longer_than_a_minute() {
        assert_eq!(ends([None]), (true, 1, 0));
        assert_eq!(ends([Some(ErrorCode::Busy), Some(ErrorCode::Busy), None]), (true, 3, 1));
        let (told, _, waited) = ends(std::iter::repeat(Some(ErrorCode::Busy)));
        assert!(!told && (50..=60).contains(&waited), "{waited} s");
    }

    #[test]
    fn what_waiting_cannot_mend_is_not_waited_for_and_an_arm_taken_back_needs_no_word() {
        assert_eq!(ends([Some(ErrorCode::Internal)]), (false, 1, 0));
        assert_eq!(ends([Some(ErrorCode::CodeRevoked)]), (true, 1, 0));
    }
}
