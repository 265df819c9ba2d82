//! Requests to addresses that others chose, as the one of a client's key set. Who names an address must neither learn nor do
//! through this process what they could not do from the Internet.
//!
//! Only `https`, only hosts whose every address is public or named in the settings, no redirects, no cookies, no proxy, a
//! deadline, a bound on the answer. The addresses that were checked are those that are connected to: the resolver below is the
//! HTTP client's own, so that no second look-up can say something else.
//!
//! Why: decision 0131.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Certificate, Response, StatusCode, Url};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Semaphore;
use url::Host;

#[cfg(test)]
mod tests;

/// How long a request may take from the first look-up to the last byte.
const DEADLINE: Duration = Duration::from_secs(5);
/// Bytes of an answer.
const MOST_BYTES: usize = 64 << 10;
/// Bytes of an address.
const LONGEST: usize = 500;
/// Requests under way at once; others wait, within their deadline.
const AT_ONCE: usize = 32;
/// Look-ups under way at once. The system's resolver cannot be stopped: one that its caller gave up goes on, and counts.
const LOOKUPS: usize = 16;

/// Where requests to addresses that others chose may go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OutgoingSettings {
    /// Networks and addresses (`10.1.0.0/16`) that are let through though they are not public: for development, and for
    /// partners in a network of the deployment's own. Whoever may name an address reaches all that is in them.
    pub allow: Vec<String>,
    /// A PEM file of authorities that are trusted beside the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OutgoingSettingsError {
    /// An entry of `allow`.
    #[error("allow: `{0}` is no address or network")]
    Allow(String),
    /// The authorities cannot be read.
    #[error("ca_file: `{}` cannot be read", .0.display())]
    File(PathBuf, #[source] io::Error),
    /// The authorities are none.
    #[error("ca_file: `{}` holds no certificates in PEM", .0.display())]
    Authorities(PathBuf),
    /// No TLS.
    #[error("no client for TLS can be made")]
    Tls(#[source] reqwest::Error),
}

/// Why an address gave nothing, in words for who named it. What a look-up found is not in them: names inside the deployment's
/// own network and names that do not exist are told alike.
#[derive(Debug, thiserror::Error)]
pub enum OutgoingError {
    /// The text is no such address.
    #[error("{0}")]
    Address(&'static str),
    /// Not all that the host stands for is public, or it stands for nothing.
    #[error("has no address on the public Internet")]
    NotPublic,
    /// No connection, no TLS that can be trusted, or no end in time.
    #[error("does not answer in time by TLS that can be trusted")]
    NoAnswer(#[source] Option<reqwest::Error>),
    /// Not 200; redirects are not followed.
    #[error("answers with status {0}, not with 200")]
    Status(u16),
    /// A longer answer.
    #[error("answers with more than {MOST_BYTES} bytes")]
    TooLong,
    /// Another answer.
    #[error("does not answer with JSON")]
    NotJson,
}

impl OutgoingError {
    fn of(error: reqwest::Error) -> Self {
        let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(cause) = source {
            if cause.is::<LookupError>() {
                return Self::NotPublic;
            }
            source = cause.source();
        }
        Self::NoAnswer(Some(error.without_url()))
    }
}

/// An address whose form was checked, in its one spelling. What its host stands for is looked up when it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target(Url);

impl Target {
    /// The address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// Asks addresses that others chose. Clones share the bounds.
#[derive(Clone, Debug)]
pub struct Outgoing {
    http: reqwest::Client,
    rules: Arc<Rules>,
    places: Arc<Semaphore>,
    deadline: Duration,
}

impl Outgoing {
    /// With these settings.
    pub fn new(settings: &OutgoingSettings) -> Result<Self, OutgoingSettingsError> {
        Self::looking_up(settings, Arc::new(|name| Ok((name, 0).to_socket_addrs()?.collect())))
    }

    fn looking_up(settings: &OutgoingSettings, lookup: Arc<Lookup>) -> Result<Self, OutgoingSettingsError> {
        let rules = Arc::new(Rules::parse(&settings.allow)?);
        let authorities = match &settings.ca_file {
            None => Vec::new(),
            Some(path) => {
                let pem =
                    std::fs::read(path).map_err(|error| OutgoingSettingsError::File(path.clone(), error))?;
                let read = Certificate::from_pem_bundle(&pem).ok().filter(|read| !read.is_empty());
                read.ok_or_else(|| OutgoingSettingsError::Authorities(path.clone()))?
            }
        };
        let resolver =
            Resolver { rules: Arc::clone(&rules), lookup, places: Arc::new(Semaphore::new(LOOKUPS)) };
        let http = crate::http::builder()
            .https_only(true)
            // Whom one asks an hour from now, one looks up anew.
            .pool_max_idle_per_host(0)
            .tls_certs_merge(authorities)
            .dns_resolver(resolver)
            .build()
            .map_err(OutgoingSettingsError::Tls)?;
        Ok(Self { http, rules, places: Arc::new(Semaphore::new(AT_ONCE)), deadline: DEADLINE })
    }

    /// Checks an address as somebody wrote it. Opens no connection and looks nothing up.
    pub fn target(&self, text: &str) -> Result<Target, OutgoingError> {
        let refuse = |words| Err(OutgoingError::Address(words));
        if text.len() > LONGEST || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return refuse("has at most 500 characters, all of them visible ASCII");
        }
        let Ok(url) = Url::parse(text) else { return refuse("is no address") };
        if url.scheme() != "https" {
            return refuse("begins with https://");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refuse("names no user");
        }
        if url.fragment().is_some() {
            return refuse("has no fragment");
        }
        if url.as_str().len() > LONGEST {
            return refuse("has at most 500 characters");
        }
        let address = match url.host() {
            Some(Host::Domain(name)) if name.ends_with('.') => return refuse("ends its host without a dot"),
            Some(Host::Domain(_)) => None,
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            None => return refuse("names a host"),
        };
        // The resolver is not asked about these.
        match address {
            Some(address) if !self.rules.let_through(address) => Err(OutgoingError::NotPublic),
            _ => Ok(Target(url)),
        }
    }

    /// The JSON that an address answers with.
    pub async fn json(&self, target: &Target) -> Result<Value, OutgoingError> {
        let asked = async {
            let _place = self.places.acquire().await.map_err(|_closed| OutgoingError::NoAnswer(None))?;
            let request = self.http.get(target.0.clone()).timeout(self.deadline);
            let request = request.header(ACCEPT, "application/json, application/*+json;q=0.9");
            let response = request.send().await.map_err(OutgoingError::of)?;
            if response.status() != StatusCode::OK {
                return Err(OutgoingError::Status(response.status().as_u16()));
            }
            if !is_json(&response) {
                return Err(OutgoingError::NotJson);
            }
            let body = bounded(response).await?;
            serde_json::from_slice(&body).map_err(|_other| OutgoingError::NotJson)
        };
        tokio::time::timeout(self.deadline, asked).await.map_err(|_late| OutgoingError::NoAnswer(None))?
    }
}

/// `application/json` and what is built on it (RFC 6839 §3.1), with whatever parameters.
fn is_json(response: &Response) -> bool {
    let given =
        response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

async fn bounded(mut response: Response) -> Result<Vec<u8>, OutgoingError> {
    let most = u64::try_from(MOST_BYTES).unwrap_or(u64::MAX);
    if response.content_length().is_some_and(|length| length > most) {
        return Err(OutgoingError::TooLong);
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(OutgoingError::of)? {
        if body.len() + chunk.len() > MOST_BYTES {
            return Err(OutgoingError::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Finds the addresses of a name.
type Lookup = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Why the resolver gives no address.
#[derive(Debug, thiserror::Error)]
#[error("no address, or one that is not let through")]
struct LookupError;

/// The HTTP client's resolver: gives only what may be connected to, or nothing. A name with one public and one inner address is
/// refused whole: nobody has such by accident.
#[derive(Clone)]
struct Resolver {
    rules: Arc<Rules>,
    lookup: Arc<Lookup>,
    places: Arc<Semaphore>,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let Self { rules, lookup, places } = self.clone();
        Box::pin(async move {
            let place = places.acquire_owned().await?;
            let found = tokio::task::spawn_blocking(move || {
                let _until_done = place;
                lookup(name.as_str())
            });
            let found = found.await?.map_err(|_unknown| LookupError)?;
            if found.is_empty() || !found.iter().all(|address| rules.let_through(address.ip())) {
                return Err(LookupError.into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Which addresses may be connected to.
#[derive(Debug)]
struct Rules {
    allow: Vec<IpNet>,
}

impl Rules {
    fn parse(allow: &[String]) -> Result<Self, OutgoingSettingsError> {
        let net = |text: &String| {
            let net = text.parse::<IpNet>().or_else(|_net| text.parse::<IpAddr>().map(IpNet::from));
            net.map_err(|_neither| OutgoingSettingsError::Allow(text.clone()))
        };
        Ok(Self { allow: allow.iter().map(net).collect::<Result<_, _>>()? })
    }

    fn let_through(&self, address: IpAddr) -> bool {
        self.allow.iter().any(|net| net.contains(&address)) || is_public(address)
    }
}

/// IPv4 networks that are not of the public Internet (IANA IPv4 Special-Purpose Address Registry, RFC 6890), and one address that
/// only looks so.
const INNER_V4: [Ipv4Net; 16] = [
    v4([0, 0, 0, 0], 8),
    v4([10, 0, 0, 0], 8),
    v4([100, 64, 0, 0], 10),
    v4([127, 0, 0, 0], 8),
    // Metadata of most clouds, too.
    v4([169, 254, 0, 0], 16),
    v4([172, 16, 0, 0], 12),
    v4([192, 0, 0, 0], 24),
    v4([192, 0, 2, 0], 24),
    v4([192, 88, 99, 0], 24),
    v4([192, 168, 0, 0], 16),
    v4([198, 18, 0, 0], 15),
    v4([198, 51, 100, 0], 24),
    v4([203, 0, 113, 0], 24),
    v4([224, 0, 0, 0], 4),
    v4([240, 0, 0, 0], 4),
    // Azure's metadata and name server, the same in every network there.
    v4([168, 63, 129, 16], 32),
];

/// What of IPv6 is given out (RFC 4291 §2.4): all else is not public, with it the IPv4 addresses in other clothes: mapped
/// (`::ffff:0:0/96`), translated (`64:ff9b::/96`, `64:ff9b:1::/48`).
const GIVEN_OUT_V6: Ipv6Net = v6([0x2000, 0], 3);

/// What of that is not public: protocols' own (Teredo, benchmarks and others, RFC 2928), documentation, 6to4.
const INNER_V6: [Ipv6Net; 4] =
    [v6([0x2001, 0], 23), v6([0x2001, 0xdb8], 32), v6([0x2002, 0], 16), v6([0x3fff, 0], 20)];

const fn v4([a, b, c, d]: [u8; 4], prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6([first, second]: [u16; 2], prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, 0), prefix)
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !INNER_V4.iter().any(|net| net.contains(&address)),
        IpAddr::V6(address) => {
            GIVEN_OUT_V6.contains(&address) && !INNER_V6.iter().any(|net| net.contains(&address))
        }
    }
}
