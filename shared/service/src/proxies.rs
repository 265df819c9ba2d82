//! Whose word about the client is believed. What a proxy says in `X-Forwarded-For`, `-Proto` and `-Host` counts only if the
//! proxy is one that the configuration names; anybody else can write such headers too.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use actix_web::http::header::HOST;
use actix_web::{HttpRequest, web};
use ipnet::IpNet;

/// The proxies in front of a service: `server.trusted_proxies`.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Reads addresses and networks (`10.0.0.0/8`).
    pub fn parse(texts: &[String]) -> anyhow::Result<Self> {
        let net = |text: &String| {
            let net = text.parse::<IpNet>().or_else(|_net| text.parse::<IpAddr>().map(IpNet::from));
            net.map_err(|_address| {
                anyhow::anyhow!("server.trusted_proxies: `{text}` is no address or network")
            })
        };
        Ok(Self(texts.iter().map(net).collect::<anyhow::Result<_>>()?))
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|net| net.contains(&address.to_canonical()))
    }

    /// The client: the last hop that no trusted proxy is. `hops` are those of `X-Forwarded-For`, in their order.
    fn client(&self, peer: IpAddr, hops: &[&str]) -> IpAddr {
        let mut client = peer.to_canonical();
        for hop in hops.iter().rev() {
            if !self.trusts(client) {
                break;
            }
            match address(hop.trim()) {
                Some(address) => client = address.to_canonical(),
                None => break,
            }
        }
        client
    }
}

/// An address with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = || text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    text.parse::<SocketAddr>().map(|socket| socket.ip()).or_else(|_socket| bare()).ok()
}

fn trusted(request: &HttpRequest) -> Option<&TrustedProxies> {
    request.app_data::<web::Data<TrustedProxies>>().map(web::Data::get_ref)
}

fn header<'r>(request: &'r HttpRequest, name: &'static str) -> impl DoubleEndedIterator<Item = &'r str> {
    let values: Vec<&str> = request.headers().get_all(name).filter_map(|value| value.to_str().ok()).collect();
    values.into_iter().flat_map(|value| value.split(',')).collect::<Vec<_>>().into_iter()
}

/// The address that a request came from. It is for counting, never for logs.
#[must_use]
pub fn peer_address(request: &HttpRequest) -> Option<IpAddr> {
    let peer = request.peer_addr()?.ip();
    let client = match trusted(request) {
        Some(trusted) if trusted.trusts(peer) => {
            trusted.client(peer, &header(request, "x-forwarded-for").collect::<Vec<_>>())
        }
        _ => peer.to_canonical(),
    };
    // One household or host has a whole /64 in IPv6.
    Some(match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from(u128::from(v6) & !u128::from(u64::MAX))),
    })
}

/// `scheme://host` as the client wrote it: what links in answers begin with.
#[must_use]
pub fn base_url(request: &HttpRequest) -> String {
    let behind = request
        .peer_addr()
        .is_some_and(|peer| trusted(request).is_some_and(|trusted| trusted.trusts(peer.ip())));
    let told = |name| header(request, name).next_back().map(str::trim).filter(|_| behind);
    let own_scheme = if request.app_config().secure() { "https" } else { "http" };
    let scheme = told("x-forwarded-proto").filter(|scheme| ["http", "https"].contains(scheme));
    let own_host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let host = told("x-forwarded-host").or(own_host).unwrap_or_else(|| request.app_config().host());
    format!("{}://{host}", scheme.unwrap_or(own_scheme))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn proxies(texts: &[&str]) -> TrustedProxies {
        TrustedProxies::parse(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn the_client_is_the_last_hop_that_nobody_trusts() {
        let trusted = proxies(&["10.0.0.0/8", "::1"]);
        let client = |peer: &str, hops: &[&str]| trusted.client(peer.parse().unwrap(), hops).to_string();
        assert_eq!(client("192.0.2.1", &["198.51.100.7"]), "192.0.2.1", "a stranger's word");
        assert_eq!(client("10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        // What stands further left anybody may have written.
        assert_eq!(client("10.0.0.1", &["127.0.0.1", "198.51.100.7", " 10.0.0.2"]), "198.51.100.7");
        assert_eq!(client("10.0.0.1", &["198.51.100.7:4711"]), "198.51.100.7");
        assert_eq!(client("::1", &["[2001:db8::7]:80"]), "2001:db8::7");
        assert_eq!(client("::ffff:10.0.0.1", &["::ffff:198.51.100.7"]), "198.51.100.7");
        assert_eq!(client("10.0.0.1", &["unknown"]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        TrustedProxies::parse(&["10.0.0.0/33".to_owned()]).unwrap_err();
    }

    #[test]
    fn links_begin_with_what_a_stranger_cannot_choose_for_others() {
        let request = |trusted: &[&str]| {
            TestRequest::get()
                .peer_addr("10.0.0.1:5".parse().unwrap())
                .insert_header(("host", "records.example"))
                .insert_header(("x-forwarded-host", "evil.example"))
                .insert_header(("x-forwarded-proto", "https"))
                .insert_header(("x-forwarded-for", "2001:db8::1:2:3:4"))
                .app_data(web::Data::new(proxies(trusted)))
                .to_http_request()
        };
        assert_eq!(base_url(&request(&[])), "http://records.example");
        assert_eq!(
            base_url(&request(&["10.0.0.1"])),
            "https://evil.example",
            "a proxy that is trusted says so"
        );
        assert_eq!(peer_address(&request(&[])).unwrap().to_string(), "10.0.0.1");
        assert_eq!(peer_address(&request(&["10.0.0.1"])).unwrap().to_string(), "2001:db8::");
    }
}
