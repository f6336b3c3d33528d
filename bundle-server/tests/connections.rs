//! What a client does with servers that are wrong, lying, slow or gone.

mod common;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{any, get};
use axum_server::tls_rustls::RustlsConfig;
use bundle::Hash;
use bundle::code::RestoreCode;
use bundle::sign::RootKey;
use bundle::trust::{NodeSecret, Pin};
use common::{TestServer, machine, patience, settled, snapshot_id};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ED25519, date_time_ymd};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use server_api::{ClientError, Connection, Hello, NodeClient, Patience, ServerUrl};

fn root() -> RootKey {
    RootKey::from_seed(&[0x52; 32])
}

/// A server that has a certificate under `root` and answers whatever `routes` say.
async fn stub(root: &RootKey, routes: Router) -> ServerUrl {
    let der = root.to_pkcs8_der();
    let root_key = KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(&der[..]), &PKCS_ED25519).unwrap();
    let valid = |mut params: CertificateParams| {
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2120, 1, 1));
        params
    };
    let mut params = valid(CertificateParams::default());
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let issuer = CertifiedIssuer::self_signed(params, root_key).unwrap();
    let leaf_key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let leaf = valid(CertificateParams::new(["stub".to_owned()]).unwrap()).signed_by(&leaf_key, &issuer).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone(), issuer.der().clone()],
            PrivateKeyDer::from(PrivatePkcs8KeyDer::from(leaf_key.serialize_der())),
        )
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = url_of(listener.local_addr().unwrap());
    let config = RustlsConfig::from_config(Arc::new(config));
    tokio::spawn(axum_server::from_tcp_rustls(listener, config).unwrap().serve(routes.into_make_service()));
    url
}

fn url_of(address: SocketAddr) -> ServerUrl {
    format!("https://{address}").parse().unwrap()
}

/// The path that every stub has: it says who it is.
fn hello_of(root: &RootKey) -> Router {
    let hello = Hello {
        service: "rerack".to_owned(),
        api: 1,
        version: "0.1.0".to_owned(),
        root_public_key: root.public().to_string(),
        time_unix: 0,
    };
    Router::new().route("/v1/hello", get(async || axum::Json(hello)))
}

async fn open(server: &ServerUrl, pin: &Pin) -> Result<Connection, ClientError> {
    Connection::open(std::slice::from_ref(server), pin, patience()).await
}

/// A node's client of a stub whose every other path does as `routes` say.
async fn node_client_of(routes: Router) -> (NodeClient, ServerUrl) {
    let url = stub(&root(), hello_of(&root()).merge(routes)).await;
    let connection = open(&url, &Pin::Fingerprint(root().id())).await.unwrap();
    let token = NodeSecret::from_bytes([7; 32]).bearer_token();
    (connection.as_node("web-03".parse().unwrap(), token), url)
}

fn free_port() -> ServerUrl {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    url_of(listener.local_addr().unwrap())
}

fn told(error: &ClientError) -> String {
    settled(&format!("{error}\n  hint: {}", error.hint().unwrap_or_default()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_or_not_the_right_one_is_named() {
    let server = TestServer::start().await;
    let right = server.pin();
    let stranger = RootKey::from_seed(&[9; 32]);
    let code_of_stranger = RestoreCode::new(&stranger.id(), [1, 2, 3, 4, 5]);
    let plain = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new().fallback(any(async || "no TLS here"));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        url_of(address)
    };
    let newer = Hello {
        service: "rerack".to_owned(),
        api: 2,
        version: "9.0.0".to_owned(),
        root_public_key: root().public().to_string(),
        time_unix: 0,
    };
    let newer = stub(&root(), Router::new().route("/v1/hello", get(async || axum::Json(newer)))).await;
    let other_service = stub(&root(), Router::new().fallback(any(async || "{}"))).await;
    let nowhere: ServerUrl = "https://no-such-host.invalid".parse().unwrap();
    let pin_of_stub = Pin::Fingerprint(root().id());
    let mut said = Vec::new();
    for (case, url, pin) in [
        ("nobody listens", &free_port(), &right),
        ("another root", &server.url, &Pin::Fingerprint(stranger.id())),
        ("another repository's code", &server.url, &Pin::from_code(&code_of_stranger)),
        ("no TLS", &plain, &right),
        ("a newer server", &newer, &pin_of_stub),
        ("another service", &other_service, &pin_of_stub),
        ("no pin", &server.url, &Pin::LocalDirectory),
    ] {
        said.push(format!("{case}: {}", told(&open(url, pin).await.expect_err(case))));
    }
    insta::assert_snapshot!(said.join("\n\n"));
    let error = open(&nowhere, &right).await.unwrap_err();
    assert!(matches!(&error, ClientError::Unreachable { .. }), "{error:?}");
    assert!(matches!(Connection::open(&[], &right, patience()).await, Err(ClientError::NoServer)));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_servers_one_good_one_is_enough() {
    let server = TestServer::start().await;
    let stranger = RootKey::from_seed(&[9; 32]);
    let wrong = stub(&stranger, hello_of(&stranger)).await;
    let servers = [free_port(), wrong, server.url.clone()];
    let connection = Connection::open(&servers, &server.pin(), patience()).await.unwrap();
    assert_eq!(connection.server(), &server.url);
    assert_eq!(connection.servers(), std::slice::from_ref(&server.url), "the others are not read from either");
    let error = Connection::open(&servers[..2], &server.pin(), patience()).await.unwrap_err();
    assert!(matches!(&error, ClientError::NoneUsable(errors) if errors.len() == 2), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_29_a_redirect_is_not_followed_and_no_token_goes_along() {
    let visits = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&visits);
    let count = any(async move || {
        counted.fetch_add(1, Ordering::SeqCst);
        StatusCode::OK
    });
    let elsewhere = stub(&root(), Router::new().fallback(count)).await;
    let target = format!("{elsewhere}/stolen");
    let redirect = any(async move || (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, target)]));
    let (client, _) = node_client_of(Router::new().fallback(redirect)).await;
    let error = client.reader().snapshots().await.unwrap_err();
    assert!(matches!(error, ClientError::Redirected { status: 307, .. }), "{error:?}");
    let sent = client.put_pack(&Hash::of(b"x"), b"x".to_vec().into()).await;
    assert!(matches!(sent, Err(ClientError::Redirected { .. })), "{sent:?}");
    assert_eq!(visits.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_29_a_busy_server_is_worth_another_try_and_says_when() {
    let busy = any(async || (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "7")], "<html>"));
    let (client, _) = node_client_of(Router::new().fallback(busy)).await;
    let error = client.reader().snapshots().await.unwrap_err();
    assert!(error.is_transient());
    assert_eq!(error.retry_after().map(|wait| wait.as_secs()), Some(7));
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_30_endless_short_and_silent_bodies_are_cut() {
    let zeros = || futures::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![0_u8; 1 << 16]));
    let endless = any(async move || Body::from_stream(zeros()).into_response());
    let (client, _) = node_client_of(Router::new().fallback(endless)).await;
    let error = client.reader().list(&snapshot_id("x"), &Hash::of(b"x")).await.unwrap_err();
    assert!(matches!(error, ClientError::AnswerTooLong { .. }), "{error:?}");

    let silent =
        any(async || Body::from_stream(futures::stream::pending::<std::io::Result<Vec<u8>>>()).into_response());
    let (client, _) = node_client_of(Router::new().fallback(silent)).await;
    let error = client.reader().snapshots().await.unwrap_err();
    assert!(matches!(error, ClientError::Stalled { .. }) && error.is_transient(), "{error:?}");

    let short = any(async || {
        let pieces = futures::stream::iter([Ok(vec![0_u8; 10]), Err(std::io::Error::other("gone"))]);
        ([(header::CONTENT_LENGTH, "100")], Body::from_stream(pieces)).into_response()
    });
    let (client, _) = node_client_of(Router::new().fallback(short)).await;
    let error = client.reader().snapshots().await.unwrap_err();
    assert!(matches!(error, ClientError::BrokenOff { .. }) && error.is_transient(), "{error:?}");

    let other_bytes = any(async || "these are not the bytes");
    let (client, _) = node_client_of(Router::new().fallback(other_bytes)).await;
    let error = client.reader().list(&snapshot_id("x"), &Hash::of(b"x")).await.unwrap_err();
    assert!(matches!(error, ClientError::WrongBytes { .. }), "{error:?}");

    let whole = any(async || "a whole pack instead of a range");
    let (client, url) = node_client_of(Router::new().fallback(whole)).await;
    let error = client.reader().pack_range(&url, &snapshot_id("x"), &Hash::of(b"x"), 0..10).await.unwrap_err();
    assert!(matches!(error, ClientError::AnswerMalformed { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_no_more_of_an_upload_is_given_up() {
    let stuck = any(async |body: Body| {
        std::future::pending::<()>().await;
        drop(body);
    });
    let url = stub(&root(), hello_of(&root()).fallback(stuck)).await;
    let second = std::time::Duration::from_secs(1);
    let patience = Patience { connect: second, stall: second, answer: 60 * second };
    let pin = Pin::Fingerprint(root().id());
    let connection = Connection::open(std::slice::from_ref(&url), &pin, patience).await.unwrap();
    let client = connection.as_node("web-03".parse().unwrap(), NodeSecret::from_bytes([7; 32]).bearer_token());
    let started = std::time::Instant::now();
    let error = client.put_pack(&Hash::of(b"x"), vec![0; 64 << 20].into()).await.unwrap_err();
    assert!(matches!(error, ClientError::Stalled { .. }), "{error:?}");
    assert!(started.elapsed() < patience.answer / 2, "the stall was noticed, not the whole time used up");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secret_of_a_code_is_not_sent_to_a_server_that_the_code_does_not_fit() {
    let visits = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&visits);
    let count = any(async move || {
        counted.fetch_add(1, Ordering::SeqCst);
        StatusCode::OK
    });
    let stranger = RootKey::from_seed(&[9; 32]);
    let impostor = stub(&stranger, hello_of(&root()).fallback(count)).await;
    let code = RestoreCode::new(&root().id(), [1, 2, 3, 4, 5]);
    let pin = Pin::from_code(&code);
    assert!(matches!(open(&impostor, &pin).await, Err(ClientError::WrongRoot { .. })));
    assert_eq!(visits.load(Ordering::SeqCst), 0);
    // Nor is it logged with the request.
    let request = server_api::OpenRequest { secret: code.reveal_secret(), machine: machine(1) };
    assert!(!format!("{request:?}").contains(&code.reveal_secret()));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_server_takes_over_when_one_is_gone_for_the_time_being() {
    let busy = Arc::new(AtomicUsize::new(0));
    let asked = busy.clone();
    let away = get(async move || {
        asked.fetch_add(1, Ordering::Relaxed);
        StatusCode::SERVICE_UNAVAILABLE.into_response()
    });
    let path = "/v1/nodes/web-03/snapshots";
    let leaving = stub(&root(), hello_of(&root()).route(path, away)).await;
    let refusing = |status: StatusCode| {
        let list = get(async move || (status, r#"{"error": "unauthorized", "message": "no"}"#).into_response());
        Router::new().route(path, list)
    };
    let there = {
        let list = get(async || axum::Json(serde_json::json!({ "node": "web-03", "snapshots": [] })));
        // It answers its greeting last, so that it is not the one that is asked first.
        let hello =
            hello_of(&root()).layer(axum::middleware::from_fn(async |request, next: axum::middleware::Next| {
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                next.run(request).await
            }));
        stub(&root(), hello.merge(Router::new().route(path, list))).await
    };
    let pin = Pin::Fingerprint(root().id());
    let token = || NodeSecret::from_bytes([7; 32]).bearer_token();
    let connection = Connection::open(&[leaving.clone(), there.clone()], &pin, patience()).await.unwrap();
    assert_eq!(connection.server(), &leaving);
    let client = connection.as_node("web-03".parse().unwrap(), token());
    for _ in 0..3 {
        client.reader().snapshots().await.unwrap();
    }
    assert_eq!(busy.load(Ordering::Relaxed), 1, "who took over is asked from then on");
    assert_eq!(connection.server(), &there);

    // A refusal is an answer: nobody else is asked.
    let strict = stub(&root(), hello_of(&root()).merge(refusing(StatusCode::UNAUTHORIZED))).await;
    let connection = Connection::open(&[strict.clone(), there], &pin, patience()).await.unwrap();
    assert_eq!(connection.server(), &strict);
    let client = connection.as_node("web-03".parse().unwrap(), token());
    let refused = client.reader().snapshots().await.unwrap_err();
    assert!(matches!(refused, ClientError::Refused { status: 401, .. }), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_speaks_without_tls_is_told_nothing() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = TestServer::start().await;
    let address = server.url.to_string().trim_start_matches("https://").trim_end_matches('/').to_owned();
    for request in ["GET /v1/hello HTTP/1.1\r\nHost: bundles\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut plain = tokio::net::TcpStream::connect(&address).await.unwrap();
        plain.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // It is closed at once, with an alert of TLS before it at most; whether by a reset does not matter.
        let closed = tokio::time::timeout(std::time::Duration::from_secs(10), plain.read_to_end(&mut answer)).await;
        assert!(closed.is_ok(), "the connection stays open");
        let text = String::from_utf8_lossy(&answer);
        assert!(!text.contains("HTTP") && answer.len() < 16, "an answer in the clear: {text:?}");
    }
    // The same address answers who asks as it must be asked.
    server.connect().await;
}
