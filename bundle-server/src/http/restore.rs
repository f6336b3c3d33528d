//! The way of one restore through its arm.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};

use axum::Json;
use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use bundle::code::digest_of_secret;
use bundle::trust::BearerToken;
use server_api::limits::{EVENTS_BODY_BYTES_MAX, JSON_BODY_BYTES_MAX};
use server_api::{Claim, ClaimRequest, ErrorCode, EventBatch, EventsStored, OpenAnswer, OpenRequest, StepRequest};

use super::auth::counted_address;
use super::refusal::{Refusal, told};
use super::{App, Reply, Shared, body};
use crate::arm::{Arm, ArmRefusal, ArmState, ClaimedPlan};
use crate::events::EventsError;

/// Disks in one claim.
const DISKS_MAX: usize = 1024;

fn claim_of(arm: &Arm) -> Option<Claim> {
    arm.plan().map(|plan| Claim {
        plan_digest: plan.plan_digest,
        disks: plan.disks.clone(),
        snapshot: plan.snapshot.clone(),
        erased: matches!(arm.state, ArmState::Erased(_) | ArmState::Done(_)),
    })
}

pub(super) async fn open(
    State(app): Shared,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Body,
) -> Reply {
    let address = counted_address(peer);
    let now = app.server.now();
    app.tries.lock().unwrap_or_else(PoisonError::into_inner).check(address, now).map_err(|seconds| {
        Refusal::new(ErrorCode::TooManyTries, "too many wrong restore codes were sent of late").retry_after(seconds)
    })?;
    let request: OpenRequest = body::read_json(&headers, body, JSON_BODY_BYTES_MAX).await?;
    let secret = digest_of_secret(&request.secret)
        .map_err(|error| Refusal::new(ErrorCode::BadRequest, error.to_string()).hint(error.hint()))?;
    let token = BearerToken::generate().map_err(crate::ServerError::from)?;
    let (digest, machine) = (token.digest(), request.machine);
    let changed =
        app.server.with_state(move |state| state.change_arm_of_secret(&secret, &digest, |arm| arm.open(&machine, now)));
    let arm = match changed.await?? {
        Some(opened) => opened?,
        None => {
            app.tries.lock().unwrap_or_else(PoisonError::into_inner).failed(address, now);
            return Err(Refusal::new(ErrorCode::WrongCode, "no node is armed with this restore code")
                .hint("compare the code with what `rerack arm` printed, and type it again"));
        }
    };
    tracing::info!(arm = arm.id, node = %arm.node, %peer, state = arm.state.word(), "a restore begins or goes on");
    let facts = app.facts(&arm.node).await?;
    let answer = OpenAnswer { token: token.reveal().to_owned(), facts, claim: claim_of(&arm) };
    Ok(Json(answer).into_response())
}

impl App {
    /// Changes the arm of the caller's token and answers with its claim.
    async fn step(
        &self,
        headers: &HeaderMap,
        change: impl FnOnce(&mut Arm) -> Result<(), ArmRefusal> + Send + 'static,
    ) -> Reply {
        let (_, token) = self.restore(headers).await?;
        let changed = self.server.with_state(move |state| state.change_arm_of_token(&token, change)).await??;
        let arm = changed.ok_or_else(|| {
            Refusal::new(ErrorCode::Unauthorized, "another use of the code has replaced this token")
        })??;
        tracing::info!(arm = arm.id, node = %arm.node, state = arm.state.word(), "a restore moves on");
        let claim = claim_of(&arm).ok_or_else(|| Refusal::from(ArmRefusal::NotClaimed))?;
        Ok(Json(claim).into_response())
    }
}

pub(super) async fn claim(State(app): Shared, headers: HeaderMap, body: Body) -> Reply {
    let (arm, _) = app.restore(&headers).await?;
    let request: ClaimRequest = body::read_json(&headers, body, JSON_BODY_BYTES_MAX).await?;
    if request.disks.len() > DISKS_MAX {
        return Err(Refusal::new(ErrorCode::BadRequest, format!("more than {DISKS_MAX} disks in one claim")));
    }
    // A claim on something that cannot be restored would only erase.
    app.server.repository.load(&arm.node, &request.snapshot).await?;
    let now = app.server.now();
    let ClaimRequest { plan_digest, disks, snapshot } = request;
    let plan = ClaimedPlan { plan_digest, disks, snapshot, claimed_at: now };
    app.step(&headers, move |arm| arm.claim(plan, now)).await
}

pub(super) async fn erased(State(app): Shared, headers: HeaderMap, body: Body) -> Reply {
    app.restore(&headers).await?;
    let StepRequest { plan_digest } = body::read_json(&headers, body, JSON_BODY_BYTES_MAX).await?;
    let now = app.server.now();
    app.step(&headers, move |arm| arm.erased(&plan_digest, now)).await
}

pub(super) async fn done(State(app): Shared, headers: HeaderMap, body: Body) -> Reply {
    app.restore(&headers).await?;
    let StepRequest { plan_digest } = body::read_json(&headers, body, JSON_BODY_BYTES_MAX).await?;
    let now = app.server.now();
    app.step(&headers, move |arm| arm.done(&plan_digest, now)).await
}

/// Events are taken after the end too: the report is the last thing a restore says.
pub(super) async fn events(State(app): Shared, headers: HeaderMap, body: Body) -> Reply {
    let (arm, _) = app.restore(&headers).await?;
    if arm.state == ArmState::Revoked {
        return Err(ArmRefusal::Revoked.into());
    }
    let batch: EventBatch = body::read_json(&headers, body, EVENTS_BODY_BYTES_MAX).await?;
    let files = Arc::clone(&app.events);
    let store = move || {
        let mut files = files.lock().unwrap_or_else(PoisonError::into_inner);
        files.store(&arm.id, &batch.session, &batch.records)
    };
    let stored = tokio::task::spawn_blocking(store).await.map_err(|_| crate::ServerError::Task)?;
    let next_seq = stored.map_err(|error| match error {
        EventsError::BadSession => Refusal::new(ErrorCode::BadRequest, error.to_string()),
        EventsError::Enough => Refusal::new(ErrorCode::TooLarge, error.to_string()),
        EventsError::Io(source) => {
            tracing::warn!(error = told(&source), "events cannot be stored");
            source.into()
        }
    })?;
    Ok(Json(EventsStored { next_seq }).into_response())
}
