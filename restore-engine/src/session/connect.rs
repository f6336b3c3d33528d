//! Reaching the server and being let in.

use std::time::Duration;

use bundle::code::RestoreCode;
use bundle::trust::{Fingerprint, Pin};
use node_model::MachineIdentity;
use restore_events::{Answer, Event, QuestionKind, Secret, ServerState, TargetState};
use server_api::{ClientError, Connection, ErrorCode, OpenAnswer, Patience, RestoreClient, ServerUrl, is_like_code};

use super::ask::{Exit, Next};
use super::{Session, hint_or, refusal};

/// First wait before an unattended machine tries again; it doubles up to [`BACKOFF_MAX`].
const BACKOFF_FIRST: Duration = Duration::from_secs(2);
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// What a person typed, or the settings said, until now.
#[derive(Debug, Clone, Default)]
pub(super) struct Access {
    pub(super) servers: Option<String>,
    pub(super) code: Option<Secret>,
    /// Servers that were named before: the field holds them at first when they are asked for again.
    named_before: Option<String>,
}

impl Access {
    /// What is known beforehand.
    pub(super) fn new(servers: Option<String>, code: Option<Secret>) -> Self {
        Self { servers, code, named_before: None }
    }
}

impl Session {
    /// Asks for whatever is not known, until a server lets this machine in.
    ///
    /// # Errors
    /// What was chosen instead.
    pub(super) fn connect(
        &mut self,
        access: &mut Access,
        machine: &MachineIdentity,
    ) -> Result<(RestoreClient, OpenAnswer), Exit> {
        let mut problem: Option<(Field, String)> = None;
        let mut wait = BACKOFF_FIRST;
        loop {
            let servers = match self.servers(access, take(&mut problem, Field::Server))? {
                Ok(servers) => servers,
                Err(why) => {
                    self.not_usable(&why, &mut access.servers)?;
                    problem = Some((Field::Server, why));
                    continue;
                }
            };
            let code = match self.code(access, take(&mut problem, Field::Code))? {
                Ok(code) => code,
                Err(why) => {
                    self.not_usable(&why, &mut access.code)?;
                    problem = Some((Field::Code, why));
                    continue;
                }
            };
            let url = servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
            self.tell_server(&url, false, Some("connecting"));
            match self.open(&servers, &code, machine) {
                Ok((client, answer)) => {
                    self.tell_server(&url, true, None);
                    return Ok((client, answer));
                }
                Err(error) => {
                    self.tell_server(&url, false, Some("not connected"));
                    problem = self.refused(access, &error, &mut wait)?;
                }
            }
        }
    }

    fn open(
        &self,
        servers: &[ServerUrl],
        code: &RestoreCode,
        machine: &MachineIdentity,
    ) -> Result<(RestoreClient, OpenAnswer), ClientError> {
        // A pin that was set beforehand is the whole key; a code carries 60 bits of it.
        let pin = self.pin.map_or_else(|| Pin::from_code(code), Pin::Fingerprint);
        self.runtime.block_on(async {
            let connection = Connection::open(servers, &pin, Patience::default()).await?;
            connection.open_restore(code, machine).await
        })
    }

    /// What to do about a server that does not let this machine in: ask again for what is wrong, or try again later.
    fn refused(
        &mut self,
        access: &mut Access,
        error: &ClientError,
        wait: &mut Duration,
    ) -> Result<Option<(Field, String)>, Exit> {
        let text = with_hint(error);
        if !self.desk.is_unattended() {
            let code_is_wrong = matches!(
                error.code(),
                Some(
                    ErrorCode::WrongCode
                        | ErrorCode::CodeUsed
                        | ErrorCode::CodeExpired
                        | ErrorCode::CodeRevoked
                        | ErrorCode::RestoreDone
                )
            );
            let field = if code_is_wrong { Field::Code } else { Field::Server };
            if field == Field::Server {
                access.servers = None;
            }
            // A server that does not fit the code: one of them was mistyped, and nobody knows which.
            if field == Field::Code || (self.pin.is_none() && is_wrong_root(error)) {
                access.code = None;
            }
            return Ok(Some((field, text)));
        }
        // Of a restore that was begun only the word that it is done is an end: everything else may be mended.
        let is_begun = self.disks_written && error.code() != Some(ErrorCode::RestoreDone);
        let next = if error.is_transient() || is_begun { Next::Retry(*wait) } else { self.after_refusal() };
        *wait = (2 * *wait).min(BACKOFF_MAX);
        let now_what = hint_or(error.hint(), "try again, or restart the machine");
        self.desk.trouble(
            ("The server does not let this machine in".into(), error.to_string(), now_what),
            if is_begun { TargetState::Unbootable } else { TargetState::Untouched },
            next,
        )?;
        Ok(None)
    }

    /// An argument that cannot be used: where nobody is expected nothing better will come.
    fn not_usable<T>(&mut self, why: &str, field: &mut Option<T>) -> Result<(), Exit> {
        *field = None;
        if !self.desk.is_unattended() {
            return Ok(());
        }
        let now_what = "correct the kernel arguments and restart the machine".to_owned();
        self.desk.trouble(
            ("An argument cannot be used".into(), why.to_owned(), now_what),
            self.target_state(),
            refusal::for_good(self.at_last()),
        )
    }

    fn servers(
        &mut self,
        access: &mut Access,
        problem: Option<String>,
    ) -> Result<Result<Vec<ServerUrl>, String>, Exit> {
        let text = match &access.servers {
            Some(text) => text.clone(),
            // Somebody who saw the problem and had it tried again can be asked.
            None if self.desk.is_unattended() && problem.is_none() => {
                return Ok(Err("rerack.unattended is given without rerack.server=".to_owned()));
            }
            None => {
                match self.desk.ask(QuestionKind::ServerAddress { default: access.named_before.clone() }, problem)? {
                    Answer::Text(text) => text,
                    _ => String::new(),
                }
            }
        };
        // A restore code that was typed here is offered nowhere again.
        let may_be_shown = !text.split(',').any(is_like_code);
        access.named_before = may_be_shown.then(|| text.clone());
        let servers = ServerUrl::parse_list(&text).map_err(|error| format!("{error}; {}", error.hint()));
        access.servers = Some(text);
        Ok(servers)
    }

    fn code(&mut self, access: &mut Access, problem: Option<String>) -> Result<Result<RestoreCode, String>, Exit> {
        let secret = match &access.code {
            Some(secret) => secret.clone(),
            None if self.desk.is_unattended() && problem.is_none() => {
                return Ok(Err("rerack.unattended is given without rerack.code=".to_owned()));
            }
            None => match self.desk.ask(QuestionKind::RestoreCode, problem)? {
                Answer::Code(code) => code,
                _ => Secret(String::new()),
            },
        };
        access.code = Some(secret.clone());
        Ok(secret.0.parse::<RestoreCode>().map_err(|error| format!("{error}; {}", error.hint())))
    }

    fn tell_server(&self, url: &str, authenticated: bool, note: Option<&str>) {
        let fingerprint = self.pin.as_ref().map(Fingerprint::to_string);
        let note = note.map(str::to_owned);
        self.teller.tell(Event::Server(ServerState { url: url.to_owned(), authenticated, fingerprint, note }));
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Server,
    Code,
}

/// Takes the problem if it is one of this field.
fn take(problem: &mut Option<(Field, String)>, field: Field) -> Option<String> {
    problem.take_if(|(of, _)| *of == field).map(|(_, why)| why)
}

/// Whether a server was reached that has another root key than expected.
fn is_wrong_root(error: &ClientError) -> bool {
    match error {
        ClientError::WrongRoot { .. } => true,
        ClientError::NoneUsable(errors) => errors.iter().any(is_wrong_root),
        _ => false,
    }
}

fn with_hint(error: &ClientError) -> String {
    match error.hint() {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    }
}
