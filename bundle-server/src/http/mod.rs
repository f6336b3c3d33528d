//! HTTPS in front of the directory.

mod auth;
mod body;
mod check;
mod packs;
mod refusal;
mod restore;
mod snapshots;
mod upload;
mod volume;

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum_server::Handle;
use axum_server::accept::NoDelayAcceptor;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hyper_util::rt::TokioTimer;
use server_api::routes::template;
use server_api::{API_VERSION, ApiError, ErrorCode, Hello};
use tokio::sync::Semaphore;

use self::refusal::Refusal;
use crate::ServerError;
use crate::events::EventFiles;
use crate::reads::RememberedReads;
use crate::server::{Server, SharedIndex};
use crate::tls;
use crate::tries::Tries;

/// How long running requests may go on after the server was told to stop.
const STOP_WAIT: Duration = Duration::from_secs(30);
/// How long a client may take for the head of a request.
const HEAD_WAIT: Duration = Duration::from_secs(30);
/// How long a client may take for its side of the TLS handshake.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(20);

/// Everything the handlers share.
pub(crate) struct App {
    server: Server,
    index: SharedIndex,
    reads: RememberedReads,
    tries: Mutex<Tries>,
    events: Arc<Mutex<EventFiles>>,
    /// Packs that are verified at once: each takes a core and up to 80 MiB.
    verifying: Arc<Semaphore>,
    /// Held while it serves, so that no second server does.
    _lock: File,
}

type Shared = State<Arc<App>>;
type Reply = Result<Response, Refusal>;

impl Server {
    /// Serves on `listener` until `shutdown` is ready, then lets running requests end for up to half a minute.
    pub async fn serve(
        &self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), ServerError> {
        let app = Arc::new(App::new(self).await?);
        let config = RustlsConfig::from_config(tls::server_config(&self.root)?);
        let acceptor = RustlsAcceptor::new(config).handshake_timeout(HANDSHAKE_WAIT).acceptor(NoDelayAcceptor);
        listener.set_nonblocking(true).map_err(ServerError::Serve)?;
        let address = listener.local_addr().map_err(ServerError::Serve)?;
        let handle = Handle::new();
        let mut server =
            axum_server::from_tcp(listener).map_err(ServerError::Serve)?.acceptor(acceptor).handle(handle.clone());
        server = server.http1_only();
        server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(HEAD_WAIT);
        let stopping = tokio::spawn(async move {
            shutdown.await;
            tracing::info!("stopping: running requests may end");
            handle.graceful_shutdown(Some(STOP_WAIT));
        });
        tracing::info!(%address, fingerprint = %self.fingerprint(), "serving");
        let service = router(app).into_make_service_with_connect_info::<SocketAddr>();
        let served = server.serve(service).await.map_err(ServerError::Serve);
        stopping.abort();
        served
    }
}

impl App {
    async fn new(server: &Server) -> Result<Self, ServerError> {
        let own = server.own_directory();
        let lock = lock_for_serving(server)?;
        let uploads = own.join("uploads");
        let failed = |source| ServerError::File { action: "empty", path: uploads.clone(), source };
        match fs::remove_dir_all(&uploads) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed.map_err(failed)?,
        }
        fs::create_dir(&uploads).map_err(failed)?;
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Ok(Self {
            server: server.clone(),
            index: server.open_index().await?,
            reads: RememberedReads::default(),
            tries: Mutex::new(Tries::new(server.now())),
            events: Arc::new(Mutex::new(EventFiles::new(own.join("events")))),
            verifying: Arc::new(Semaphore::new(cores)),
            _lock: lock,
        })
    }
}

fn lock_for_serving(server: &Server) -> Result<File, ServerError> {
    let path = server.own_directory().join("serving.lock");
    let failed = |source| ServerError::File { action: "lock", path: path.clone(), source };
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => {
            Err(ServerError::AlreadyServed { path: server.directory.as_path().to_owned() })
        }
        Err(fs::TryLockError::Error(error)) => Err(failed(error)),
    }
}

fn router(app: Arc<App>) -> Router {
    Router::new()
        .route(template::HELLO, get(hello))
        .route(template::NODE, get(snapshots::facts))
        .route(template::CHUNKS_MISSING, post(upload::chunks_missing))
        .route(template::PACK_UPLOAD, post(upload::pack))
        .route(template::LIST_UPLOAD, put(upload::list))
        .route(template::CATALOG_UPLOAD, put(upload::catalog))
        .route(template::SNAPSHOTS, get(snapshots::list))
        .route(template::SNAPSHOT, put(upload::commit))
        .route(template::MANIFEST, get(snapshots::manifest))
        .route(template::SIGNATURE, get(snapshots::signature))
        .route(template::RECEIPT, get(snapshots::receipt))
        .route(template::PLACEMENT, get(snapshots::placement))
        .route(template::CHECK, post(check::check))
        .route(template::LIST, get(snapshots::list_segment))
        .route(template::CATALOG, get(snapshots::catalog_segment))
        .route(template::PACK, get(packs::range))
        .route(template::VOLUME, get(volume::whole))
        .route(template::RESTORE_OPEN, post(restore::open))
        .route(template::RESTORE_CLAIM, post(restore::claim))
        .route(template::RESTORE_ERASED, post(restore::erased))
        .route(template::RESTORE_DONE, post(restore::done))
        .route(template::RESTORE_EVENTS, post(restore::events))
        .fallback(async || Refusal::new(ErrorCode::NotFound, "there is no such path on this server"))
        .method_not_allowed_fallback(async || {
            Refusal::new(ErrorCode::MethodNotAllowed, "this path is not for that method; nothing can be deleted")
        })
        // Every handler reads its body itself, each with its own bound.
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn(say_why))
        .with_state(app)
}

/// Gives every refusal a JSON reason, those of the framework included, and logs it. Paths hold no secrets.
async fn say_why(request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let peer = auth::peer_of(&request);
    let response = next.run(request).await;
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let response = match response.extensions().get::<ApiError>() {
        Some(_) => response,
        None => Refusal::new(ErrorCode::BadRequest, format!("the request is malformed (HTTP status {status})"))
            .into_response(),
    };
    let reason = response.extensions().get::<ApiError>().map(|error| error.message.clone()).unwrap_or_default();
    tracing::warn!(%method, path, peer, status = status.as_u16(), reason, "refused");
    response
}

async fn hello(State(app): Shared) -> Response {
    let hello = Hello {
        service: "rerack".to_owned(),
        api: API_VERSION,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        root_public_key: app.server.root.public().to_string(),
        time_unix: app.server.now().as_second(),
    };
    axum::Json(hello).into_response()
}
