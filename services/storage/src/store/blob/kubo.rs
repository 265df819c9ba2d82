//! Kubo over its RPC.
//!
//! Adds and pins go through `ipfs-api`, each behind a deadline. Reads do not: that client drops the trailer in which
//! Kubo announces an error in mid-stream, so that a cut-off read looks like a success. The read path here is its own,
//! checks the trailer and the length, and leaves hash and tag to the caller.

use std::future::Future;
use std::io::Cursor;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use futures_util::future::BoxFuture;
use hbc_types::secret::SecretText;
use http_body_util::BodyExt;
use ipfs_api_backend_hyper::request::{Add, BlockPut};
use ipfs_api_backend_hyper::{IpfsApi, IpfsClient, TryFromUri};
use reqwest::{StatusCode, Url};
use tokio::sync::Semaphore;

use crate::domain::segment::{BLOCK_BYTES, raw_cid};
use crate::store::blob::{BlobError, BlobStore};

/// Chunks of an object that is larger than one block.
const CHUNKER: &str = "size-1048576";
/// The trailer that announces an error in mid-stream.
const STREAM_ERROR: &str = "x-stream-error";

/// A Kubo daemon.
#[derive(Clone)]
pub struct Kubo {
    rpc: IpfsClient,
    http: reqwest::Client,
    base: Url,
    user: String,
    token: SecretText,
    timeout: Duration,
    calls: Arc<Semaphore>,
}

impl std::fmt::Debug for Kubo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kubo").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

fn unavailable(error: impl std::fmt::Display) -> BlobError {
    BlobError::Unavailable(error.to_string())
}

impl Kubo {
    /// The daemon whose RPC answers at `url`, with at most `calls` calls at once.
    pub fn new(
        url: &str,
        user: &str,
        token: SecretText,
        timeout: Duration,
        calls: usize,
    ) -> Result<Self, BlobError> {
        let base = Url::parse(url).map_err(unavailable)?;
        let rpc = IpfsClient::from_str(url).map_err(unavailable)?.with_credentials(user, token.expose());
        let http = hbc_client::http::client().map_err(unavailable)?;
        let calls = Arc::new(Semaphore::new(calls.max(1)));
        Ok(Self { rpc, http, base, user: user.to_owned(), token, timeout, calls })
    }

    /// Runs one RPC call behind its deadline and the limit of calls at once.
    async fn call<T>(
        &self,
        work: impl Future<Output = Result<T, ipfs_api_backend_hyper::Error>>,
    ) -> Result<T, Failure> {
        let _permit = self.calls.acquire().await.map_err(|_closed| Failure::gone("closed"))?;
        match tokio::time::timeout(self.timeout, work).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(Failure::from(error)),
            Err(_elapsed) => Err(Failure::gone("no answer in time")),
        }
    }

    async fn put_block(&self, bytes: Bytes) -> Result<Cid, BlobError> {
        let expected = raw_cid(&bytes);
        let options = BlockPut::builder().pin(true).build();
        let answer = self.call(self.rpc.block_put_with_options(Cursor::new(bytes), options)).await?;
        if Cid::from_str(&answer.key).ok() == Some(expected) {
            Ok(expected)
        } else {
            Err(BlobError::Corrupt(expected))
        }
    }

    async fn add(&self, bytes: Bytes, only_hash: bool) -> Result<Cid, BlobError> {
        let options = Add::builder()
            .cid_version(1)
            .raw_leaves(true)
            .chunker(CHUNKER)
            .pin(!only_hash)
            .only_hash(only_hash)
            .build();
        let answer = self.call(self.rpc.add_with_options(Cursor::new(bytes), options)).await?;
        Cid::from_str(&answer.hash).map_err(unavailable)
    }

    async fn cat(&self, cid: Cid, offset: u64, length: u64) -> Result<Bytes, BlobError> {
        let _permit = self.calls.acquire().await.map_err(unavailable)?;
        let mut url = self.base.join("/api/v0/cat").map_err(unavailable)?;
        url.query_pairs_mut()
            .append_pair("arg", &cid.to_string())
            .append_pair("offset", &offset.to_string())
            .append_pair("length", &length.to_string());
        let request =
            self.http.post(url).basic_auth(&self.user, Some(self.token.expose())).timeout(self.timeout);
        let response = request.send().await.map_err(|error| unavailable(error.without_url()))?;
        let status = response.status();
        if !status.is_success() {
            let text = response.text().await.unwrap_or_default();
            return Err(Failure::of_status(status, text).read(cid));
        }
        collect(response, cid, length).await
    }
}

/// Reads the whole body with its trailers.
async fn collect(response: reqwest::Response, cid: Cid, length: u64) -> Result<Bytes, BlobError> {
    let mut body = http::Response::<reqwest::Body>::from(response).into_body();
    let expected = usize::try_from(length).map_err(unavailable)?;
    let mut bytes = Vec::with_capacity(expected.min(64 * 1024 * 1024));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| unavailable(error.without_url()))?;
        match frame.into_data() {
            Ok(data) if bytes.len() + data.len() > expected => return Err(BlobError::Corrupt(cid)),
            Ok(data) => bytes.extend_from_slice(&data),
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers()
                    && let Some(message) = trailers.get(STREAM_ERROR)
                {
                    let text = String::from_utf8_lossy(message.as_bytes()).into_owned();
                    return Err(Failure::of_text(text).read(cid));
                }
            }
        }
    }
    if bytes.len() == expected { Ok(Bytes::from(bytes)) } else { Err(BlobError::Corrupt(cid)) }
}

/// What a failed call said. `ipfs-api` loses the HTTP status, so the text decides.
struct Failure {
    text: String,
}

impl Failure {
    fn gone(text: &str) -> Self {
        Self { text: text.to_owned() }
    }

    fn of_text(text: String) -> Self {
        Self { text }
    }

    fn of_status(status: StatusCode, text: String) -> Self {
        if status.is_server_error() {
            Self { text }
        } else {
            Self { text: format!("HTTP {}", status.as_u16()) }
        }
    }

    fn not_pinned(&self) -> bool {
        self.text.contains("not pinned")
    }

    /// A read of which the daemon itself says that it failed: the block is not there, or what lies there cannot be read.
    fn read(self, cid: Cid) -> BlobError {
        if self.text.contains("not found") || self.text.contains("could not find") {
            BlobError::Missing(cid)
        } else if ["context", "HTTP", "shutting down", "closed"].iter().any(|word| self.text.contains(word)) {
            BlobError::Unavailable(self.text)
        } else {
            tracing::warn!(ipfs.cid = %cid, kubo.cause = self.text, "IPFS cannot read what it stored");
            BlobError::Corrupt(cid)
        }
    }
}

impl From<ipfs_api_backend_hyper::Error> for Failure {
    fn from(error: ipfs_api_backend_hyper::Error) -> Self {
        Self { text: error.to_string() }
    }
}

impl From<Failure> for BlobError {
    fn from(failure: Failure) -> Self {
        Self::Unavailable(failure.text)
    }
}

impl BlobStore for Kubo {
    fn put(&self, bytes: Bytes) -> BoxFuture<'_, Result<Cid, BlobError>> {
        if bytes.len() <= BLOCK_BYTES {
            Box::pin(self.put_block(bytes))
        } else {
            Box::pin(self.add(bytes, false))
        }
    }

    fn cid_of(&self, bytes: Bytes) -> BoxFuture<'_, Result<Cid, BlobError>> {
        Box::pin(async move {
            if bytes.len() <= BLOCK_BYTES { Ok(raw_cid(&bytes)) } else { self.add(bytes, true).await }
        })
    }

    fn read(&self, cid: Cid, offset: u64, length: u64) -> BoxFuture<'_, Result<Bytes, BlobError>> {
        Box::pin(self.cat(cid, offset, length))
    }

    fn unpin(&self, cid: Cid) -> BoxFuture<'_, Result<(), BlobError>> {
        Box::pin(async move {
            match self.call(self.rpc.pin_rm(&cid.to_string(), true)).await {
                Ok(_) => Ok(()),
                Err(failure) if failure.not_pinned() => Ok(()),
                Err(failure) => Err(failure.into()),
            }
        })
    }

    fn is_pinned(&self, cid: Cid) -> BoxFuture<'_, Result<bool, BlobError>> {
        Box::pin(async move {
            let text = cid.to_string();
            match self.call(self.rpc.pin_ls(Some(&text), Some("recursive"))).await {
                Ok(answer) => Ok(answer.keys.contains_key(&text)),
                Err(failure) if failure.not_pinned() => Ok(false),
                Err(failure) => Err(failure.into()),
            }
        })
    }

    fn check(&self) -> BoxFuture<'_, Result<(), BlobError>> {
        Box::pin(async move { Ok(self.call(self.rpc.version()).await.map(|_version| ())?) })
    }
}
