//! Every refusal says why, in JSON; and a server that stops lets what runs come to its end.

mod common;

use std::time::Duration;

use bundle::Hash;
use bundle::testing::noise;
use bundle::{frame, pack};
use bundle_server::VALIDITY_DEFAULT;
use common::{TestServer, machine, settled};
use reqwest::{Method, StatusCode};
use server_api::{ApiError, ErrorCode};

/// A client that trusts anybody, for requests that ours would not send.
fn raw_client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().tls_danger_accept_invalid_certs(true).build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_says_why_in_json() {
    let server = TestServer::start().await;
    let node = server.add_node("web-03").await;
    let built = node.capture(&server, "5af0").await;
    let armed = server.server.arm(&node.name, VALIDITY_DEFAULT).await.unwrap();
    let opened = server.connect_by_code(&armed.code).await.open_restore(&armed.code, &machine(1)).await.unwrap();
    let own = node.file.secret.bearer_token().reveal().to_owned();
    let restore = opened.1.token;

    let (here, none) = ("/v1/nodes/web-03", Hash::of(b"nothing that is here"));
    let snapshot = format!("{here}/snapshots/5af0");
    let mine = built.packs[0].name;
    let post = |path: &str, body: &'static str| (Method::POST, path.to_owned(), "", body);
    let put = |path: String, body: &'static str| (Method::PUT, path, "", body);
    let get = |path: String| (Method::GET, path, "", "");
    let range = |range: &'static str| (Method::GET, format!("{snapshot}/packs/{mine}"), range, "");
    let as_node = [
        get("/v1/nodes/%ff".into()),
        get("/v1/nodes/UPPER%20CASE".into()),
        get("/v1/nodes/nobody".into()),
        get(format!("{here}/nothing")),
        get(format!("{here}/snapshots/none/manifest.json")),
        get(format!("{here}/snapshots/%2e%2e%2fx/manifest.json")),
        get(format!("{here}/snapshots/none/placement")),
        post(&format!("{here}/snapshots/none/check"), ""),
        get(format!("{snapshot}/lists/xyz")),
        get(format!("{snapshot}/lists/{none}")),
        get(format!("{snapshot}/catalogs/{none}")),
        get(format!("{snapshot}/volumes/root")),
        get(format!("{snapshot}/volumes/none.tar.zst")),
        get(format!("{snapshot}/volumes/root.raw.zst")),
        get(format!("{snapshot}/packs/{mine}")),
        range("bytes=a-b"),
        range("bytes=0-1,4-5"),
        range("bytes=-5"),
        range("bytes=9-2"),
        range("bytes=0-99999999999999999999"),
        range("bytes=0-9999999999"),
        post(&format!("{here}/chunks/missing"), "not a number of hashes"),
        post(&format!("{here}/packs/xyz"), "x"),
        post(&format!("{here}/packs/{none}"), ""),
        put(format!("{here}/lists/xyz"), "x"),
        put(format!("{here}/lists/{none}"), "x"),
        put(format!("{here}/catalogs/{none}"), "x"),
        put(format!("{here}/snapshots/5af1"), ""),
        put(format!("{here}/snapshots/5af1"), "{}"),
        put(format!("{here}/snapshots/5af1"), r#"{"manifest": "{}", "signature": "{}"}"#),
        put(format!("{here}/snapshots/.."), "{}"),
    ];
    let as_restore = [
        post("/v1/restore/open", ""),
        post("/v1/restore/open", "[]"),
        post("/v1/restore/open", r#"{"secret": "", "machine": {}}"#),
        post("/v1/restore/claim", "null"),
        post("/v1/restore/erased", "{"),
        post("/v1/restore/done", r#"{"plan_digest": "0"}"#),
        post("/v1/restore/events", r#"{"session": "../../x", "records": []}"#),
        post("/v1/restore/events", r#"{"session": 7}"#),
    ];
    let mut said = String::new();
    let client = raw_client();
    let requests = as_node.into_iter().map(|r| (r, &own)).chain(as_restore.into_iter().map(|r| (r, &restore)));
    for ((method, path, range, body), token) in requests {
        let mut request = client.request(method.clone(), format!("{}{path}", server.url)).bearer_auth(token).body(body);
        if !range.is_empty() {
            request = request.header("range", range);
        }
        let answer = request.send().await.unwrap();
        let (status, kind) = (answer.status(), answer.headers().get("content-type").cloned());
        let bytes = answer.bytes().await.unwrap();
        let case = format!("{method} {path} {range} {body}");
        assert!(status.is_client_error(), "{case}: {status}");
        assert_eq!(kind.unwrap(), "application/json", "{case}");
        let error: ApiError = serde_json::from_slice(&bytes).unwrap_or_else(|why| panic!("{case}: {why}: {bytes:?}"));
        assert_eq!(status.as_u16(), error.code.status(), "{case}: {error:?}");
        let code = error.code;
        said += &settled(&format!("{}\n    {} {code}: {error}\n", case.trim_end(), status.as_u16()));
    }
    insta::assert_snapshot!(said);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_an_upload_that_runs_and_takes_no_other() {
    let mut server = TestServer::start().await;
    let node = server.add_node("web-03").await;
    let content = noise(4711, 3 << 20);
    let mut pack = pack::PackBuilder::new();
    pack.push(Hash::of(&content), &frame::compress(&content, 1).unwrap()).unwrap();
    let pack = pack.finish().unwrap();

    let token = node.file.secret.bearer_token();
    let url = format!("{}/v1/nodes/web-03/packs/{}", server.url, pack.name);
    let (feed, pieces) = futures::channel::mpsc::unbounded::<std::io::Result<Vec<u8>>>();
    let (first, second) = pack.bytes.split_at(pack.bytes.len() / 2);
    feed.unbounded_send(Ok(first.to_vec())).unwrap();
    let body = reqwest::Body::wrap_stream(pieces);
    let running = tokio::spawn(raw_client().post(&url).bearer_auth(token.reveal()).body(body).send());
    tokio::time::timeout(Duration::from_secs(20), async {
        while server.leftover_uploads() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the upload begins");

    let hello = format!("{}/v1/hello", server.url);
    let ending = async {
        // Whoever comes now finds nobody.
        let refused = async {
            while raw_client().get(&hello).send().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), refused).await.expect("no new connection is taken");
        feed.unbounded_send(Ok(second.to_vec())).unwrap();
        drop(feed);
    };
    tokio::join!(server.stop(), ending);
    assert_eq!(running.await.unwrap().unwrap().status(), StatusCode::OK, "the upload was acknowledged");

    server.restart(|_| {}).await;
    let missing = node.client(&server.connect().await).missing_chunks(&[Hash::of(&content)]).await.unwrap();
    assert_eq!(missing.missing_count(), 0, "what was acknowledged is there");
    let unknown = raw_client().get(format!("{}/v1/nothing", server.url)).send().await.unwrap();
    let error: ApiError = serde_json::from_slice(&unknown.bytes().await.unwrap()).unwrap();
    assert_eq!(error.code, ErrorCode::NotFound);
}
