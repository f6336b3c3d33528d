//! Codes, tokens and arms over HTTPS on the loopback address.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use bundle::Hash;
use bundle::code::RestoreCode;
use bundle_server::VALIDITY_DEFAULT;
use common::{TestNode, TestServer, machine, refusal, settled, snapshot_id};
use reqwest::Method;
use restore_events::{Event, LogLevel, Record};
use server_api::{ApiError, ClaimRequest, ClientError, ErrorCode, EventBatch, RestoreClient};

fn plan(name: &str) -> ClaimRequest {
    ClaimRequest {
        plan_digest: Hash::of(name.as_bytes()),
        disks: vec![bundle::node_model::DiskId::Serial("RR-NEW-1".to_owned())],
        snapshot: snapshot_id("5af0"),
    }
}

async fn armed(server: &TestServer) -> (TestNode, RestoreCode) {
    let node = server.add_node("web-03").await;
    node.capture(server, "5af0").await;
    let armed = server.server.arm(&node.name, VALIDITY_DEFAULT).await.expect("an arm");
    (node, armed.code)
}

async fn open(server: &TestServer, code: &RestoreCode, number: u8) -> Result<RestoreClient, ClientError> {
    server.connect_by_code(code).await.open_restore(code, &machine(number)).await.map(|(client, _)| client)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_typed_code_leads_through_the_whole_restore() {
    let server = TestServer::start().await;
    let (node, code) = armed(&server).await;
    let connection = server.connect_by_code(&code).await;
    let (client, answer) = connection.open_restore(&code, &machine(1)).await.unwrap();
    assert_eq!((&answer.facts.node, &answer.claim), (&node.name, &None));
    assert_eq!(client.reader().snapshots().await.unwrap().snapshots.len(), 1);
    client.reader().placement(&snapshot_id("5af0")).await.unwrap();

    assert_eq!(refusal(client.erased(plan("a").plan_digest).await).0, ErrorCode::WrongStep, "nothing is claimed");
    assert!(!client.claim(&plan("a")).await.unwrap().erased);
    assert_eq!(refusal(client.erased(plan("b").plan_digest).await).0, ErrorCode::ClaimDiffers);
    assert!(client.erased(plan("a").plan_digest).await.unwrap().erased);
    assert_eq!(refusal(client.claim(&plan("b")).await).0, ErrorCode::ClaimDiffers, "one erase");

    // A power cut: the same machine comes back with the same code, after the hour, and finds its claim.
    server.advance(7200);
    let (again, answer) = connection.open_restore(&code, &machine(1)).await.unwrap();
    let claim = answer.claim.expect("the claim is remembered");
    assert!(claim.erased && claim.plan_digest == plan("a").plan_digest && claim.disks == plan("a").disks);
    assert_eq!(refusal(client.reader().snapshots().await).0, ErrorCode::Unauthorized, "the old token is replaced");
    assert!(again.claim(&plan("a")).await.unwrap().erased);
    again.done(plan("a").plan_digest).await.unwrap();
    again.done(plan("a").plan_digest).await.unwrap();

    assert_eq!(refusal(again.reader().snapshots().await).0, ErrorCode::RestoreDone);
    assert_eq!(refusal(open(&server, &code, 1).await).0, ErrorCode::RestoreDone, "done burns the code");
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_56_wrong_used_expired_and_revoked_codes_say_so() {
    let server = TestServer::start().await;
    let (node, code) = armed(&server).await;
    let mut said = Vec::new();
    let mut check = |case: &str, outcome: Result<RestoreClient, ClientError>| {
        let (code, text) = refusal(outcome);
        said.push(format!("{case}: {code}\n{}", settled(&text)));
    };
    let wrong = RestoreCode::new(&server.server.fingerprint(), [1, 2, 3, 4, 5]);
    check("wrong", open(&server, &wrong, 1).await);
    let first = open(&server, &code, 1).await.unwrap();
    check("used by another machine", open(&server, &code, 2).await);
    open(&server, &code, 1).await.expect("the same machine may open again");
    server.advance(3600);
    check("expired", open(&server, &code, 1).await);
    assert_eq!(refusal(first.reader().snapshots().await).0, ErrorCode::Unauthorized);

    let armed = server.server.arm(&node.name, VALIDITY_DEFAULT).await.unwrap();
    let client = open(&server, &armed.code, 3).await.unwrap();
    client.claim(&plan("a")).await.unwrap();
    server.server.disarm(&armed.arm.id).await.unwrap();
    assert_eq!(
        refusal(client.reader().snapshots().await).0,
        ErrorCode::CodeRevoked,
        "a disarmed restore reads nothing"
    );
    assert_eq!(refusal(client.erased(plan("a").plan_digest).await).0, ErrorCode::CodeRevoked);
    check("revoked", open(&server, &armed.code, 3).await);
    insta::assert_snapshot!(said.join("\n\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_codes_is_slowed_down() {
    let server = TestServer::start().await;
    let (_, code) = armed(&server).await;
    for guess in 0..10 {
        let wrong = RestoreCode::new(&server.server.fingerprint(), [9, 9, 9, 9, guess]);
        assert_eq!(refusal(open(&server, &wrong, 1).await).0, ErrorCode::WrongCode);
    }
    let error = open(&server, &code, 1).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::TooManyTries), "even the right code waits");
    assert!(error.is_transient() && error.retry_after().is_some_and(|wait| wait.as_secs() == 30));
    server.advance(30);
    open(&server, &code, 1).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_arm_of_a_node_at_a_time() {
    let server = TestServer::start().await;
    let (node, code) = armed(&server).await;
    let second = server.server.arm(&node.name, VALIDITY_DEFAULT).await.unwrap();
    assert_eq!(refusal(open(&server, &code, 1).await).0, ErrorCode::CodeRevoked, "a new arm replaces an unused one");
    let client = open(&server, &second.code, 1).await.unwrap();
    client.claim(&plan("a")).await.unwrap();
    let error = server.server.arm(&node.name, VALIDITY_DEFAULT).await.unwrap_err();
    assert!(error.to_string().contains("under way") && error.hint().unwrap().contains("disarm"), "{error}");
    let words: Vec<&str> = server.server.arms().await.unwrap().iter().map(|arm| arm.state.word()).collect();
    assert_eq!(words.iter().filter(|word| **word == "claimed").count(), 1, "{words:?}");
    assert_eq!(words.iter().filter(|word| **word == "revoked").count(), 1, "{words:?}");

    let empty = server.add_node("empty").await;
    let error = server.server.arm(&empty.name, VALIDITY_DEFAULT).await.unwrap_err();
    assert!(error.to_string().contains("nothing to restore"), "{error}");
    let error = server.server.arm(&"nobody".parse().unwrap(), VALIDITY_DEFAULT).await.unwrap_err();
    assert!(error.to_string().contains("no node nobody"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_names_a_snapshot_that_can_be_restored() {
    let server = TestServer::start().await;
    let (_, code) = armed(&server).await;
    let client = open(&server, &code, 1).await.unwrap();
    let claim = ClaimRequest { snapshot: snapshot_id("none"), ..plan("a") };
    assert_eq!(refusal(client.claim(&claim).await).0, ErrorCode::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_kept_once_and_taken_after_the_end() {
    let server = TestServer::start().await;
    let (_, code) = armed(&server).await;
    let client = open(&server, &code, 1).await.unwrap();
    let record = |seq| Record::new(seq, seq, Event::Log { level: LogLevel::Info, text: format!("line {seq}") });
    let batch = |numbers: std::ops::Range<u64>| EventBatch {
        session: "run-1".to_owned(),
        records: numbers.map(record).collect(),
    };
    assert_eq!(client.send_events(&batch(0..3)).await.unwrap().next_seq, 3);
    assert_eq!(client.send_events(&batch(1..5)).await.unwrap().next_seq, 5);
    client.claim(&plan("a")).await.unwrap();
    client.done(plan("a").plan_digest).await.unwrap();
    assert_eq!(client.send_events(&batch(5..6)).await.unwrap().next_seq, 6, "the report comes last");
    let arm = server.server.arms().await.unwrap().remove(0);
    let text = fs::read_to_string(server.directory.join(format!("server/events/{}/run-1.jsonl", arm.id))).unwrap();
    assert_eq!(text.lines().count(), 6);
}

/// Every route, with a method it has.
fn routes() -> Vec<(Method, String, Kind)> {
    use Kind::{Read, Restore, Write};
    let hash = Hash::of(b"x");
    let node = "/v1/nodes/web-03";
    let snapshot = format!("{node}/snapshots/5af0");
    vec![
        (Method::GET, node.to_owned(), Read),
        (Method::POST, format!("{node}/chunks/missing"), Write),
        (Method::POST, format!("{node}/packs/{hash}"), Write),
        (Method::PUT, format!("{node}/lists/{hash}"), Write),
        (Method::PUT, format!("{node}/catalogs/{hash}"), Write),
        (Method::GET, format!("{node}/snapshots"), Read),
        (Method::PUT, snapshot.clone(), Write),
        (Method::GET, format!("{snapshot}/manifest.json"), Read),
        (Method::GET, format!("{snapshot}/manifest.sig"), Read),
        (Method::GET, format!("{snapshot}/receipt.json"), Read),
        (Method::GET, format!("{snapshot}/placement"), Read),
        (Method::POST, format!("{snapshot}/check"), Read),
        (Method::GET, format!("{snapshot}/lists/{hash}"), Read),
        (Method::GET, format!("{snapshot}/catalogs/{hash}"), Read),
        (Method::GET, format!("{snapshot}/packs/{hash}"), Read),
        (Method::GET, format!("{snapshot}/volumes/root.tar.zst"), Read),
        (Method::POST, "/v1/restore/claim".to_owned(), Restore),
        (Method::POST, "/v1/restore/erased".to_owned(), Restore),
        (Method::POST, "/v1/restore/done".to_owned(), Restore),
        (Method::POST, "/v1/restore/events".to_owned(), Restore),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
    Restore,
}

/// A client that trusts anybody, as an attacker may.
fn stranger() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().tls_danger_accept_invalid_certs(true).build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_56_every_route_refuses_every_token_that_is_not_for_it() {
    let server = TestServer::start().await;
    let (node, code) = armed(&server).await;
    let other = server.add_node("web-04").await;
    let other_capture = other.capture(&server, "other").await;
    let other_arm = server.server.arm(&other.name, VALIDITY_DEFAULT).await.unwrap();
    let token_of = async |code: &RestoreCode| {
        let connection = server.connect_by_code(code).await;
        connection.open_restore(code, &machine(1)).await.unwrap().1.token
    };
    let (restore, foreign_restore) = (token_of(&code).await, token_of(&other_arm.code).await);
    let own = node.file.secret.bearer_token().reveal().to_owned();
    let foreign = other.file.secret.bearer_token().reveal().to_owned();
    drop(other_capture);
    let tokens: [(&str, Option<&str>, &[Kind]); 6] = [
        ("nobody", None, &[]),
        ("garbage", Some("garbage"), &[]),
        ("another node", Some(&foreign), &[]),
        ("another node's restore", Some(&foreign_restore), &[Kind::Restore]),
        ("the node's restore", Some(&restore), &[Kind::Read, Kind::Restore]),
        ("the node", Some(&own), &[Kind::Read, Kind::Write]),
    ];
    let client = stranger();
    for (method, path, kind) in routes() {
        for (who, token, allowed) in tokens {
            let mut request = client.request(method.clone(), format!("{}{path}", server.url));
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            let answer = request.send().await.unwrap();
            let status = answer.status().as_u16();
            let denied = matches!(status, 401 | 403);
            let body = answer.bytes().await.unwrap();
            if allowed.contains(&kind) {
                let code = serde_json::from_slice::<ApiError>(&body).map(|error| error.code);
                assert!(
                    !denied || code.is_ok_and(|code| code == ErrorCode::RangeNotAllowed),
                    "{who}: {method} {path}: {status}"
                );
            } else {
                assert!(denied, "{who}: {method} {path}: {status}");
                let error: ApiError = serde_json::from_slice(&body).expect("a reason in JSON");
                assert!(!error.message.is_empty());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_deletes_anything() {
    let server = TestServer::start().await;
    let (node, _) = armed(&server).await;
    let token = node.file.secret.bearer_token();
    for (_, path, _) in routes() {
        for method in [Method::DELETE, Method::PATCH] {
            let url = format!("{}{path}", server.url);
            let answer = stranger().request(method.clone(), url).bearer_auth(token.reveal()).send().await.unwrap();
            assert_eq!(answer.status().as_u16(), 405, "{method} {path}");
            let error: ApiError = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
            assert_eq!(error.code, ErrorCode::MethodNotAllowed);
        }
    }
    let answer = stranger().get(format!("{}/v2/nothing", server.url)).send().await.unwrap();
    assert_eq!(serde_json::from_slice::<ApiError>(&answer.bytes().await.unwrap()).unwrap().code, ErrorCode::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_too_long_are_refused_before_they_are_read() {
    let server = TestServer::start().await;
    let (node, _) = armed(&server).await;
    let token = node.file.secret.bearer_token();
    let hash = Hash::of(b"x");
    for (path, method, length) in [
        ("/v1/nodes/web-03/chunks/missing".to_owned(), Method::POST, (65_536 * 32) + 1),
        (format!("/v1/nodes/web-03/packs/{hash}"), Method::POST, (80 << 20) + 1),
        (format!("/v1/nodes/web-03/lists/{hash}"), Method::PUT, (4 << 20) + 1),
        ("/v1/nodes/web-03/snapshots/x".to_owned(), Method::PUT, (17 << 20) + 1),
        ("/v1/restore/open".to_owned(), Method::POST, (256 << 10) + 1),
    ] {
        for announced in [true, false] {
            let body = vec![b' '; length];
            let body = if announced {
                reqwest::Body::from(body)
            } else {
                reqwest::Body::wrap_stream(futures::stream::iter(
                    body.chunks(1 << 20).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect::<Vec<_>>(),
                ))
            };
            let url = format!("{}{path}", server.url);
            let request = stranger().request(method.clone(), url).bearer_auth(token.reveal()).body(body);
            // A server that has answered may close while the rest is still on its way.
            let Ok(answer) = request.send().await else { continue };
            assert_eq!(answer.status().as_u16(), 413, "{path}, announced: {announced}");
            let Ok(bytes) = answer.bytes().await else { continue };
            let error: ApiError = serde_json::from_slice(&bytes).expect("a reason in JSON");
            assert_eq!(error.code, ErrorCode::TooLarge, "{error:?}");
        }
    }
    assert_eq!(server.leftover_uploads(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_54_no_secret_lies_about() {
    let mut server = TestServer::start().await;
    let (node, code) = armed(&server).await;
    let (_, answer) = server.connect_by_code(&code).await.open_restore(&code, &machine(1)).await.unwrap();
    server.stop().await;
    let secrets = [
        ("the node's token", node.file.secret.bearer_token().reveal().to_owned()),
        ("the restore's token", answer.token),
        ("the code's secret", code.reveal_secret()),
    ];
    let mut waiting = vec![server.directory.clone()];
    let mut files = 0;
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        files += 1;
        let bytes = fs::read(&path).unwrap();
        for (what, secret) in &secrets {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{} holds {what}", path.display());
        }
    }
    assert!(files > 10);
    let mode = |path: &str| fs::metadata(server.directory.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("server"), mode("server/root.key")), (0o700, 0o600));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_a_new_secret_has_no_use_for_the_old_one() {
    let server = TestServer::start().await;
    let node = server.add_node("web-03").await;
    node.capture(&server, "5af0").await;
    let servers = vec![server.url.to_string()];
    let error = server.server.node_add(&node.name, servers.clone(), false).await.unwrap_err();
    assert!(error.hint().unwrap().contains("--replace"), "{error}");
    let file = server.server.node_add(&node.name, servers, true).await.unwrap();
    let connection = server.connect().await;
    assert_eq!(refusal(node.client(&connection).reader().snapshots().await).0, ErrorCode::Unauthorized);
    let renewed = TestNode { name: node.name.clone(), file };
    let list = renewed.client(&connection).reader().snapshots().await.unwrap();
    assert_eq!(list.snapshots.len(), 1, "what was stored under the old key stays readable");
    renewed.capture(&server, "5af1").await;
}
