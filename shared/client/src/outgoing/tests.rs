//! What addresses that others chose can be made to do: nothing.

use std::sync::atomic::{AtomicUsize, Ordering};

use hbc_testkit::https::{CERTIFICATE, HttpsServer};
use serde_json::json;

use super::*;

/// Lets through what `allow` says, and trusts the kit's server; the folder goes once that was read.
fn settings(allow: &[&str]) -> (OutgoingSettings, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    std::fs::write(&path, CERTIFICATE).unwrap();
    let allow = allow.iter().map(|&net| net.to_owned()).collect();
    (OutgoingSettings { allow, ca_file: Some(path) }, folder)
}

fn trusting(allow: &[&str]) -> Outgoing {
    Outgoing::new(&settings(allow).0).unwrap()
}

async fn get(outgoing: &Outgoing, address: &str) -> Result<Value, OutgoingError> {
    outgoing.json(&outgoing.target(address)?).await
}

#[tokio::test]
async fn no_address_that_is_not_public_is_connected_to() {
    let server = HttpsServer::start().await;
    server.answers(&json!({"keys": []}));
    let outgoing = trusting(&[]);
    let port = server.port;
    let hosts = [
        "127.0.0.1",
        "127.1",
        "127.0.0.1.",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0x7f.1",
        "127.255.255.254",
        "0.0.0.0",
        "0",
        "10.0.0.1",
        "10.255.255.255",
        "100.64.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "168.63.129.16",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[fe80::1]",
        "[fc00::1]",
        "[fd00:ec2::254]",
        "[ff02::1]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b:1::7f00:1]",
        "[2001::1]",
        "[2001:db8::1]",
        "[2002:7f00:1::]",
        "[3fff::1]",
        "[5f00::1]",
        "[100::1]",
        "localhost",
        "LOCALHOST",
        "%6cocalhost",
    ];
    for host in hosts {
        let refused = get(&outgoing, &format!("https://{host}:{port}/jwks")).await.unwrap_err();
        assert!(matches!(refused, OutgoingError::NotPublic), "{host}: {refused:?}");
    }
    let texts = [
        format!("http://127.0.0.1:{port}/jwks"),
        format!("ftp://127.0.0.1:{port}/jwks"),
        format!("file:///etc/passwd#{port}"),
        format!("https://user@localhost:{port}/jwks"),
        format!("https://:secret@localhost:{port}/jwks"),
        format!("https://keys.example@localhost:{port}/jwks"),
        format!("https://localhost:{port}/jwks#keys"),
        format!("https://localhost.:{port}/jwks"),
        format!("https://keys.example.:{port}/jwks"),
        format!("https://loc\nalhost:{port}/jwks"),
        format!(" https://localhost:{port}/jwks"),
        format!("https://l\u{f6}calhost:{port}/jwks"),
        format!("https://localhost:{port}/{}", "x".repeat(500)),
        "https://".to_owned(),
        "https://localhost:70000/jwks".to_owned(),
        "/jwks".to_owned(),
        "data:application/json,{}".to_owned(),
        String::new(),
    ];
    for text in &texts {
        let refused = outgoing.target(text).unwrap_err();
        assert!(matches!(refused, OutgoingError::Address(_)), "{text}: {refused:?}");
    }
    assert_eq!(server.connections(), 0);
}

#[test]
fn public_is_what_anybody_can_reach() {
    for public in [
        "1.1.1.1",
        "172.15.255.255",
        "172.32.0.1",
        "100.63.255.255",
        "198.20.0.1",
        "2606:4700::1111",
        "2a00::1",
        "2001:200::1",
    ] {
        assert!(is_public(public.parse().unwrap()), "{public}");
    }
}

#[tokio::test]
async fn a_name_counts_as_all_that_it_resolves_to_at_the_moment_of_connecting() {
    let server = HttpsServer::start().await;
    server.answers(&json!({"keys": []}));
    let closed = OutgoingSettings::default();
    let answers: [&[&str]; 4] = [&["127.0.0.1"], &["1.1.1.1", "127.0.0.1"], &["::ffff:127.0.0.1"], &[]];
    for addresses in answers {
        let found: Vec<SocketAddr> =
            addresses.iter().map(|address| SocketAddr::new(address.parse().unwrap(), 0)).collect();
        let outgoing = Outgoing::looking_up(&closed, Arc::new(move |_name| Ok(found.clone()))).unwrap();
        let refused = get(&outgoing, &format!("https://rebound.example:{}/", server.port)).await.unwrap_err();
        assert!(matches!(refused, OutgoingError::NotPublic), "{addresses:?}: {refused:?}");
    }
    // A name that says another address each time: each request asks once, and goes to what it was told.
    let (times, port) = (Arc::new(AtomicUsize::new(0)), server.port);
    let counted = Arc::clone(&times);
    let turning = move |_name: &str| {
        let first = counted.fetch_add(1, Ordering::SeqCst) == 0;
        let address = if first { Ipv4Addr::LOCALHOST } else { Ipv4Addr::new(169, 254, 169, 254) };
        Ok(vec![SocketAddr::from((address, 0))])
    };
    let (settings, _folder) = settings(&["127.0.0.1"]);
    let outgoing = Outgoing::looking_up(&settings, Arc::new(turning)).unwrap();
    let address = format!("https://localhost:{port}/");
    get(&outgoing, &address).await.unwrap();
    assert_eq!((times.load(Ordering::SeqCst), server.requests()), (1, 1));
    assert!(matches!(get(&outgoing, &address).await, Err(OutgoingError::NotPublic)));
    assert_eq!((times.load(Ordering::SeqCst), server.requests()), (2, 1));
}

#[tokio::test]
async fn what_is_no_bounded_json_over_trusted_tls_is_refused() {
    let server = HttpsServer::start().await;
    let other = HttpsServer::start().await;
    let mut outgoing = trusting(&["127.0.0.0/8"]);
    let address = server.url("/jwks");
    server.answers(&json!({"keys": [1]}));
    assert_eq!(get(&outgoing, &address).await.unwrap(), json!({"keys": [1]}));
    // Nobody vouches for the certificate, and it is for another name.
    let stranger = OutgoingSettings { allow: vec!["127.0.0.0/8".to_owned()], ca_file: None };
    let stranger = Outgoing::new(&stranger).unwrap();
    assert!(matches!(get(&stranger, &address).await, Err(OutgoingError::NoAnswer(_))));
    let here = Arc::new(|_name: &str| Ok(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))]));
    let elsewhere = Outgoing::looking_up(&settings(&["127.0.0.1"]).0, here).unwrap();
    let named = format!("https://keys.example:{}/", server.port);
    assert!(matches!(get(&elsewhere, &named).await, Err(OutgoingError::NoAnswer(_))));
    assert_eq!((server.requests(), server.connections()), (1, 3));

    let json = "content-type: application/json\r\n";
    for status in [301, 302, 307, 308] {
        server.answers_with(status, &format!("{json}location: {}\r\n", other.url("/")), b"{}");
        assert!(
            matches!(get(&outgoing, &address).await, Err(OutgoingError::Status(other)) if other == status)
        );
    }
    assert_eq!(
        (server.requests(), other.requests(), other.connections()),
        (5, 0, 0),
        "no redirect is followed"
    );
    for content in [
        "",
        "content-type: text/html\r\n",
        "content-type: application/jsonp\r\n",
        "content-type: text/x+json\r\n",
    ] {
        server.answers_with(200, content, b"{}");
        assert!(matches!(get(&outgoing, &address).await, Err(OutgoingError::NotJson)), "{content}");
    }
    for content in
        ["content-type: application/jwk-set+json\r\n", "content-type: Application/JSON; charset=utf-8\r\n"]
    {
        server.answers_with(200, content, b"{}");
        assert_eq!(get(&outgoing, &address).await.unwrap(), json!({}));
    }
    server.answers_with(200, json, b"no json");
    assert!(matches!(get(&outgoing, &address).await, Err(OutgoingError::NotJson)));
    let long = json!("x".repeat(MOST_BYTES - 2)).to_string();
    server.answers_with(200, json, long.as_bytes());
    get(&outgoing, &address).await.unwrap();
    server.answers_with(200, json, format!("{long} ").as_bytes());
    assert!(matches!(get(&outgoing, &address).await, Err(OutgoingError::TooLong)));
    let chunks = format!("{:x}\r\n{long} \r\n0\r\n\r\n", long.len() + 1);
    server.answers_raw(
        format!("HTTP/1.1 200 OK\r\n{json}transfer-encoding: chunked\r\n\r\n{chunks}").as_bytes(),
    );
    assert!(matches!(get(&outgoing, &address).await, Err(OutgoingError::TooLong)));

    outgoing.deadline = Duration::from_millis(300);
    server.does_not_end();
    assert!(matches!(get(&outgoing, &address).await, Err(OutgoingError::NoAnswer(_))));
    server.hangs_up();
    assert!(matches!(get(&outgoing, &address).await, Err(OutgoingError::NoAnswer(_))));
}

#[test]
fn settings_that_cannot_be_used_are_named() {
    let fault = |settings: OutgoingSettings| Outgoing::new(&settings).unwrap_err().to_string();
    let allow = |text: &str| OutgoingSettings { allow: vec![text.to_owned()], ca_file: None };
    for text in ["localhost", "10.0.0.0/33", ""] {
        assert_eq!(fault(allow(text)), format!("allow: `{text}` is no address or network"));
    }
    Outgoing::new(&allow("fd00::/8")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    let settings = OutgoingSettings { allow: Vec::new(), ca_file: Some(path.clone()) };
    assert!(fault(settings.clone()).ends_with("cannot be read"));
    std::fs::write(path, "no certificate").unwrap();
    assert!(fault(settings).ends_with("holds no certificates in PEM"));
}
